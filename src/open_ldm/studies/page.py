"""study.html: the claim and the findings of a study on one self-contained page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.pictures import grid, png_bytes
from open_ldm.pages.content import Head, Link, Part, Picture, Table, figure, link_to, render_page
from open_ldm.studies.charts import (
    StudyChart,
    condition_charts,
    curve_charts,
    declared_charts,
    map_charts,
    metric_charts,
    token_charts,
)
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.measure import SHOWN, Strip, read_strip, sweep_file
from open_ldm.studies.table import table_at, table_of

PAPER_NOTE = "Not run at this scale here: it builds, and its cost is counted."
_PLOT_PX = 520
"""Width of a plot that stands beside another."""


@dataclass(frozen=True)
class Claim:
    """The paper's claim in our words, and what was found in every setting."""

    claim: str
    findings: Table
    notes: Sequence[str]


@dataclass(frozen=True)
class Numbers:
    """The arms of one setting. `cells`: what a cell says; `accuracy`: of the classifier whose features were used, in words."""

    recipe: str
    changes: Sequence[str]
    cells: str
    accuracy: str
    table: Table
    notes: Sequence[str]
    runs: Sequence[Link]


@dataclass(frozen=True)
class Commands:
    """What repeats the study, and each of its runs."""

    study: str
    runs: Sequence[str]


def page_of(found: StudyFound, path: Path) -> str:
    """The page as HTML, to be written to `path`."""
    study = found.study
    head = Head(study.title, f"{study.question} Twin of {study.shows}. Scale: {found.scale}.")
    figures = [figure(each.chart, each.caption) for each in declared_charts(found)]
    parts: list[Part | None] = [
        Part("The claim, and what was found", "study/claim.html", _claim(found)),
        Part("Curves", "figures.html", figures) if figures else None,
    ]
    for setting in found.settings:
        parts += [
            _numbers(setting, path),
            *_at_conditions(setting),
            _plots(setting, "curves", curve_charts(setting, study)),
            _plots(setting, "plots", metric_charts(setting)),
            _plots(setting, "plots by condition", condition_charts(setting)),
            _plots(setting, "maps", map_charts(setting, study.grid)),
            _pictures(setting),
            _plots(setting, "where attention and gradient go", token_charts(setting)),
        ]
    commands = list(dict.fromkeys(command for setting in found.settings for command in setting.commands))
    parts.append(Part("Commands", "study/commands.html", Commands(shlex.join(found.command), commands)))
    return render_page(head, parts, f"study, {found.scale}")


def _claim(found: StudyFound) -> Claim:
    study = found.study
    done, planned = (sum(getattr(each, name) for each in found.settings) for name in ("done", "planned"))
    state = "" if found.finished else f"Not finished: {done} of {planned} runs are measured."
    left = [name for each in found.settings for name in _left_out(each, several=len(found.settings) > 1)]
    only = f"Only some arms were run; left out: {'; '.join(left)}." if left else ""
    notes = [study.notes, state, only, PAPER_NOTE if found.scale == "paper" else ""]
    findings = Table([[each.setting, each.text()] for each in found.findings], ["data", "found here"])
    return Claim(study.claim, findings, [note for note in notes if note])


def _left_out(found: SettingFound, *, several: bool) -> list[str]:
    """Name the arms that were neither requested nor measured before, or the setting where that is all of them."""
    there, name = {arm for arm, _ in found.folders}, found.setting.name
    left = [arm for arm in found.setting.arms if arm not in there]
    if several and len(left) == len(found.setting.arms):
        return [name]
    return [f"{name}, {arm}" if several else arm for arm in left]


def _numbers(found: SettingFound, page: Path) -> Part | None:
    header, rows = table_of(found)
    if not rows:
        return None
    more = len({each.seed for each in found.measured}) > 1
    words = [words_of(metric) for metric in found.metrics]
    meanings = " ".join(f"{each.title}: {each.meaning}." for each in words if each.meaning)
    reasons = dict.fromkeys(f"{each.arm}: {reason}" for each in found.measured for reason in each.refused.values())
    refused = f"Not measured: {'; '.join(reasons)}" if reasons else ""
    content = Numbers(
        recipe=found.setting.recipe,
        changes=found.setting.changes,
        cells=(
            "mean ± standard deviation between seeds [95 % interval over seeds; over pictures where all seeds agree]"
            if more
            else "value [95 % interval over its pictures by the bootstrap; one seed of training says nothing of another]"
        ),
        accuracy="" if found.accuracy is None else f"{found.accuracy:.0%}",
        table=Table(rows, header),
        notes=[note for note in (meanings, refused) if note],
        runs=_runs(found, page),
    )
    return Part(f"{found.setting.name}: numbers", "study/numbers.html", content)


def _at_conditions(found: SettingFound) -> list[Part | None]:
    """A table for each metric that was measured at conditions."""
    parts: list[Part | None] = []
    for metric, conditions in found.conditions.items():
        header, rows = table_at(found, metric, conditions)
        parts.append(Part(f"{found.setting.name}: {words_of(metric).title}", "table.html", Table(rows, header)))
    return parts


def _runs(found: SettingFound, page: Path) -> list[Link]:
    """The report of every run that has one; arms that share a training have none of their own."""
    reports = {(arm, seed): folder.parent / "report.html" for (arm, seed), folder in found.folders.items()}
    return [link_to(report, page, f"{arm}, seed {seed}") for (arm, seed), report in reports.items() if report.is_file()]


def _plots(found: SettingFound, name: str, charts: Sequence[StudyChart]) -> Part | None:
    figures = [figure(each.chart, each.caption, width_px=_PLOT_PX) for each in charts]
    return Part(f"{found.setting.name}: {name}", "plots.html", figures) if figures else None


def _pictures(found: SettingFound) -> Part | None:
    """The first seed's pictures: a row an arm, a column a prompt; for sweeps a block an arm."""
    folders = {arm: found.folders[(arm, 0)] for arm in found.arms if (arm, 0) in found.folders}
    shown = {arm: strip for arm, folder in folders.items() if (strip := read_strip(folder / SHOWN)) is not None}
    pictures = []
    if shown:
        pictures.append(Picture("Every column: one prompt and one noise for all arms.", _rows(shown), "samples"))
    for sweep in found.setting.protocol.sweeps:
        name = sweep_file(sweep.control)
        strips = {arm: strip for arm, folder in folders.items() if (strip := read_strip(folder / name)) is not None}
        for arm, strip in strips.items():
            headers = [f"{sweep.control}={value}" for value in sweep.values]
            png = png_bytes(grid(strip.pixels, strip.columns, row_headers=strip.words, column_headers=headers))
            caption = f"{arm}: only {sweep.control} differs along a row."
            pictures.append(Picture(caption, png, f"{sweep.control} sweep"))
    return Part(f"{found.setting.name}: pictures", "pictures.html", pictures) if pictures else None


def _rows(strips: Mapping[str, Strip]) -> bytes:
    first = next(iter(strips.values()))
    pixels = [each for strip in strips.values() for each in strip.pixels]
    return png_bytes(grid(pixels, first.columns, row_headers=list(strips), column_headers=list(first.words)))
