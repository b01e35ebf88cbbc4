"""study.html, study.json and study.md: rewritten after every arm, so that a study that was stopped shows what there is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_ldm import __version__
from open_ldm.core.files import write_json, write_text
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.pages.figures import Format, inline
from open_ldm.pages.labels import short_number
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.report.page import page
from open_ldm.runs.report.sections import captioned, picture, section, table
from open_ldm.studies.charts import StudyChart, declared_charts, map_charts, metric_charts, save_charts, token_charts
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.measure import SHOWN, Strip, read_strip, sweep_file
from open_ldm.studies.results import Summary

PAPER_NOTE = "Not run at this scale here: it builds, and its cost is counted."


def write_study(found: StudyFound, out: Path, figure_format: Format | None = None) -> Path:
    """Write study.json, study.md and study.html into `out`; returns the page. Raises DiskError.

    `figure_format`: its charts also become files of their own beside the page.
    """
    write_json(out / "study.json", content_of(found))
    write_text(out / "study.md", markdown_of(found))
    path = out / "study.html"
    write_text(path, page(f"{found.study.title}, {found.scale}", _sections(found), what="study"))
    if figure_format is not None:
        save_charts(found, out, figure_format)
    return path


def content_of(found: StudyFound) -> dict[str, Any]:
    """Plain data."""
    study = found.study
    return {
        "study": study.name,
        "title": study.title,
        "shows": study.shows,
        "question": study.question,
        "claim": study.claim,
        "scale": found.scale,
        "finished": found.finished,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "command": shlex.join(found.command),
        "findings": [
            {"text": each.text(), "verdict": each.verdict, "setting": each.setting, "relative": each.relative}
            for each in found.findings
        ],
        "settings": [_setting_content(each) for each in found.settings],
    }


def _setting_content(found: SettingFound) -> dict[str, Any]:
    summaries = {
        arm: {metric: vars(one) for metric in found.metrics if (one := found.summary(arm, metric))} for arm in found.arms
    }
    return {
        "name": found.setting.name,
        "recipe": found.setting.recipe,
        "changes": list(found.setting.changes),
        "classifier_accuracy": found.accuracy,
        "done": found.done,
        "planned": found.planned,
        "arms": summaries,
        "measured": [each.to_json() for each in found.measured],
        "commands": list(found.commands),
    }


def markdown_of(found: StudyFound) -> str:
    """Tables and findings, for a page of documentation."""
    study = found.study
    lines = [f"# {study.title}", "", f"{study.question} Twin of {study.shows}, scale `{found.scale}`.", ""]
    lines += [f"Claim: {study.claim}", ""]
    lines += [f"* {each.setting}: {each.text()}" for each in found.findings] + [""]
    for setting in found.settings:
        header, rows = table_of(setting)
        lines += [f"## {setting.setting.name} ({setting.done} of {setting.planned} runs)", ""]
        lines += ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)] + [""]
    return "\n".join([*lines, f"`{shlex.join(found.command)}`, {datetime.now(UTC):%Y-%m-%d}, version {__version__}", ""])


def table_of(found: SettingFound) -> tuple[list[str], list[list[str]]]:
    """Header and one row for each arm."""
    header = ["arm", "seeds", *(words_of(metric).title for metric in found.metrics)]
    rows = []
    for arm in found.arms:
        seeds = len({each.seed for each in found.measured if each.arm == arm})
        rows.append([arm, str(seeds), *(cell_of(found.summary(arm, metric)) for metric in found.metrics)])
    return header, rows


def cell_of(summary: Summary | None) -> str:
    """'mean ± spread [low, high]'."""
    if summary is None:
        return "–"
    spread = "" if summary.spread is None else f" ± {_digits(summary.spread)}"
    if summary.low == summary.high:
        return f"{_digits(summary.mean)}{spread}"
    return f"{_digits(summary.mean)}{spread} [{_digits(summary.low)}, {_digits(summary.high)}]"


def _digits(value: float) -> str:
    return short_number(float(f"{value:.3g}"))


def _sections(found: StudyFound) -> list[Markup]:
    study = found.study
    head = element(
        "header",
        element("h1", study.title),
        element("p", f"{study.question} Twin of {study.shows}. Scale: {found.scale}.", class_="subtitle"),
    )
    figures = _shown(declared_charts(found))
    parts = [head, _claim(found), section("Curves", *figures) if figures else Markup()]
    for setting in found.settings:
        name = setting.setting.name
        parts += [
            _numbers(setting),
            _gallery(f"{name}: plots", metric_charts(setting)),
            _gallery(f"{name}: maps", map_charts(setting, study.grid)),
            _pictures(setting),
            _gallery(f"{name}: where attention and gradient go", token_charts(setting)),
        ]
    return [*parts, _commands(found)]


def _claim(found: StudyFound) -> Markup:
    study = found.study
    state = "" if found.finished else f"Not finished: {sum(each.done for each in found.settings)} of "
    state += "" if found.finished else f"{sum(each.planned for each in found.settings)} runs are measured."
    rows = [[each.setting, each.text()] for each in found.findings]
    asked = {arm for each in found.settings for arm, _ in each.folders}
    arms = list(dict.fromkeys(arm for each in found.settings for arm in each.setting.arms))
    left = [arm for arm in arms if arm not in asked]
    only = f"Asked for were only some arms; left out: {'; '.join(left)}." if left else ""
    notes = [study.notes, state, only, PAPER_NOTE if found.scale == "paper" else ""]
    return section(
        "The claim, and what was found",
        element("p", f"The paper: {study.claim}"),
        table(rows, ["data", "found here"]),
        joined(element("p", note, class_="note") for note in notes if note),
    )


def _numbers(found: SettingFound) -> Markup:
    header, rows = table_of(found)
    if not rows:
        return Markup()
    more = len({each.seed for each in found.measured}) > 1
    over = (
        "mean ± standard deviation between seeds [95 % interval of the mean over seeds]"
        if more
        else "value [95 % interval over its pictures by the bootstrap; one seed of training says nothing of another]"
    )
    changes = " ".join(found.setting.changes) or "nothing"
    seen = "" if found.accuracy is None else f" Features: a classifier fitted on these data, {found.accuracy:.0%} right."
    words = [words_of(metric) for metric in found.metrics]
    meanings = [f"{each.title}: {each.meaning}." for each in words if each.meaning]
    reasons = dict.fromkeys(f"{each.arm}: {reason}" for each in found.measured for reason in each.refused.values())
    return section(
        f"{found.setting.name}: numbers",
        element("p", f"{found.setting.recipe}, changed by {changes}. Cells: {over}.{seen}"),
        table(rows, header),
        element("p", " ".join(meanings), class_="note"),
        element("p", "Not measured: " + "; ".join(reasons), class_="note") if reasons else Markup(),
    )


def _shown(charts: Sequence[StudyChart]) -> list[Markup]:
    return [captioned(inline(each.chart), each.caption) for each in charts]


def _gallery(title: str, charts: Sequence[StudyChart]) -> Markup:
    return section(title, element("div", *_shown(charts), class_="gallery")) if charts else Markup()


def _pictures(found: SettingFound) -> Markup:
    """The first seed's pictures: a row an arm, a column a prompt; for sweeps a block an arm."""
    folders = {arm: found.folders[(arm, 0)] for arm in found.arms if (arm, 0) in found.folders}
    shown = {arm: strip for arm, folder in folders.items() if (strip := read_strip(folder / SHOWN)) is not None}
    parts = []
    if shown:
        parts.append(captioned(picture(_rows(shown), "samples"), "Every column: one prompt and one noise for all arms."))
    for sweep in found.setting.protocol.sweeps:
        name = sweep_file(sweep.control)
        strips = {arm: strip for arm, folder in folders.items() if (strip := read_strip(folder / name)) is not None}
        for arm, strip in strips.items():
            headers = [f"{sweep.control}={value}" for value in sweep.values]
            png = png_bytes(grid(strip.pixels, strip.columns, row_headers=strip.words, column_headers=headers))
            parts.append(captioned(picture(png, f"{sweep.control} sweep"), f"{arm}: only {sweep.control} differs along a row."))
    return section(f"{found.setting.name}: pictures", *parts) if parts else Markup()


def _rows(strips: Mapping[str, Strip]) -> bytes:
    first = next(iter(strips.values()))
    pixels = [each for strip in strips.values() for each in strip.pixels]
    return png_bytes(grid(pixels, first.columns, row_headers=list(strips), column_headers=list(first.words)))


def _commands(found: StudyFound) -> Markup:
    commands = list(dict.fromkeys(command for setting in found.settings for command in setting.commands))
    return section(
        "Commands",
        element("p", "This page, and everything on it; the same command goes on where it stopped:"),
        element("pre", shlex.join(found.command)),
        element("p", "Each run by itself:") if commands else Markup(),
        element("pre", "\n".join(commands)) if commands else Markup(),
    )
