"""study.html, study.json and study.md: rewritten after every arm, so that a study that was stopped shows what there is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_ldm import __version__
from open_ldm.core.files import write_json, write_text
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.pages.axes import short_number
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.pages.svg import Plot, Series, line_plot
from open_ldm.runs.report.page import page
from open_ldm.runs.report.sections import captioned, picture, section, table
from open_ldm.studies.forest import Row, forest_plot
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.heat_map import Cell, heat_map
from open_ldm.studies.measure import SHOWN, Strip, read_strip, sweep_file
from open_ldm.studies.results import Summary, over_seeds

PAPER_NOTE = "Not run at this scale here: it builds, and its cost is counted."


def write_study(found: StudyFound, out: Path) -> Path:
    """Write study.json, study.md and study.html into `out`; returns the page. Raises DiskError."""
    write_json(out / "study.json", content_of(found))
    write_text(out / "study.md", markdown_of(found))
    path = out / "study.html"
    write_text(path, page(f"{found.study.title}, {found.scale}", _sections(found), what="study"))
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
    figures = [captioned(line_plot(each.plot), each.caption) for each in (study.figures() if study.figures else ())]
    parts = [head, _claim(found), section("Curves", *figures) if figures else Markup()]
    for setting in found.settings:
        parts += [_numbers(setting), _plots(setting), _heat_maps(setting, study.grid), _pictures(setting), _tokens(setting)]
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


def _plots(found: SettingFound) -> Markup:
    plots = []
    for metric in found.metrics:
        words = words_of(metric)
        better = f" ({words.better} is better)" if words.better else ""
        if len(found.points) > 1 and found.setting.protocol.points > 1:
            plots.append(_curves(found, metric, words.title + better))
            continue
        rows = []
        for arm in found.arms:
            if (summary := found.summary(arm, metric)) is not None:
                rows.append(Row(arm, summary, [value.value for value in found.at_end(arm, metric).values()]))
        plots.append(captioned(forest_plot(words.title + better, rows), ""))
    return section(f"{found.setting.name}: plots", element("div", *plots, class_="gallery")) if plots else Markup()


def _heat_maps(found: SettingFound, grid: tuple[str, str] | None) -> Markup:
    """Of a study whose arms are pairs of settings: a map for each metric."""
    if grid is None or not found.measured:
        return Markup()
    maps = []
    for metric in found.metrics:
        cells = []
        for arm in found.arms:
            row, _, column = arm.partition(", ")
            if (summary := found.summary(arm, metric)) is not None:
                cells.append(Cell(row, column, summary.mean))
        maps.append(captioned(heat_map(words_of(metric).title, grid, cells), ""))
    return section(f"{found.setting.name}: maps", element("div", *maps, class_="gallery"))


def _curves(found: SettingFound, metric: str, title: str) -> Markup:
    series = []
    for arm in found.arms:
        points = [(samples, found.at(arm, metric, samples)) for samples in found.points]
        there = [(samples, over_seeds(values)) for samples, values in points if values]
        if there:
            x, y = [samples for samples, _ in there], [one.mean for _, one in there]
            series.append(Series(arm, x, y, band=[(one.low, one.high) for _, one in there]))
    return captioned(line_plot(Plot(title, "samples seen", title, series)), "")


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


def _tokens(found: SettingFound) -> Markup:
    """Attention and gradient by place, of the first seed."""
    told = [each for each in found.measured if each.tokens and each.seed == 0]
    if not told:
        return Markup()
    plots = []
    for name, title in (("attention", "share of attention"), ("gradient", "share of gradient norm")):
        series: list[Series] = []
        for each in told:
            for side in ("token", "padding"):
                places: Sequence[float | None] = each.tokens[name][side]
                y = [math.nan if value is None else value for value in places]
                series.append(Series(f"{each.arm}, {side}", list(range(1, len(y) + 1)), y))
        plots.append(captioned(line_plot(Plot(title, "place in the caption", title, series, from_zero=True)), ""))
    return section(f"{found.setting.name}: where attention and gradient go", element("div", *plots, class_="gallery"))


def _commands(found: StudyFound) -> Markup:
    commands = list(dict.fromkeys(command for setting in found.settings for command in setting.commands))
    return section(
        "Commands",
        element("p", "This page, and everything on it; the same command goes on where it stopped:"),
        element("pre", shlex.join(found.command)),
        element("p", "Each run by itself:") if commands else Markup(),
        element("pre", "\n".join(commands)) if commands else Markup(),
    )
