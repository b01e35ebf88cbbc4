"""The page of a run in stages: all of them on one axis, then each by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_ldm.core.events import Event, duration
from open_ldm.core.files import write_text
from open_ldm.pages.figures import Mark, Plot, Series, line_plot
from open_ldm.pages.markup import Markup, element
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.held_out import EVENT
from open_ldm.runs.history import RunHistory, RunState, busy_seconds, lookup, read_history
from open_ldm.runs.report.data import shown
from open_ldm.runs.report.happenings import config_section
from open_ldm.runs.report.page import page
from open_ldm.runs.report.sections import captioned, picture, section, table
from open_ldm.runs.report.transfer import transfer_section


@dataclass(frozen=True)
class _Placed:
    """A stage, and how many samples the stages before it saw."""

    name: str
    record: RunHistory
    before: int


def write_stages_report(out: Path) -> Path:
    """Write `out`/report.html from the folders of its stages. Returns the page's path; raises DiskError when it cannot."""
    stages: list[_Placed] = []
    before = 0
    for folder in RunFolder(out).parts:
        record = read_history(folder.path)
        if record.events:
            stages.append(_Placed(folder.path.name.partition("-")[2], record, before))
            before += record.samples_seen
    path = out / "report.html"
    write_text(path, page(out.resolve().name, _content(out, stages)))
    return path


def _content(out: Path, stages: Sequence[_Placed]) -> list[Markup]:
    seen = sum(stage.record.samples_seen for stage in stages)
    seconds = sum(busy_seconds(stage.record.events) for stage in stages)
    whole = read_history(out)
    listed = whole.config.get("stages")
    of = f"{len(stages)} of {len(listed)}" if isinstance(listed, list) and len(listed) > len(stages) else f"{len(stages)}"
    facts = [("Stages", of), ("Samples seen", f"{seen:,}"), ("Time", duration(seconds))]
    state = whole.state if RunFolder(out).exit.is_file() else RunState("running", "busy")
    head = element(
        "header",
        element(
            "div", element("h1", out.resolve().name), element("span", state.word, class_=f"state {state.tone}"), class_="title"
        ),
        element("p", "a run in stages, each starting from the weights of the one before", class_="subtitle"),
        element("p", state.reason, class_=f"subtitle {state.tone}") if state.reason else Markup(),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts), class_="facts"),
    )
    parts = [_loss_section(stages), _held_out_section(stages), _overview(stages), *map(_stage, stages)]
    return [head, *parts, config_section(whole)]


def _loss_section(stages: Sequence[_Placed]) -> Markup:
    series: list[Series] = []
    for stage in stages:
        train = stage.record.named("train")
        samples = [stage.before + event.samples_seen for event in train]
        series.append(Series(stage.name, samples, [_number(event, "loss") for event in train], smooth=True))
    words = (
        "Losses of stages that differ in picture size, noise schedule or data measure different things: a step between two"
        " stages is no step forwards or backwards by itself."
    )
    return section("Training", _on_one_axis("Loss of all stages", series, stages), element("p", words, class_="note"))


def _held_out_section(stages: Sequence[_Placed]) -> Markup:
    """The loss on held-out pictures of the stages that measured it."""
    series: list[Series] = []
    for stage in stages:
        if events := stage.record.named(EVENT):
            seen = [stage.before + event.samples_seen for event in events]
            mean, low, high = ([_number(event, name) for event in events] for name in ("mean", "low", "high"))
            series.append(Series(stage.name, seen, mean, band=list(zip(low, high, strict=True))))
    if not series:
        return Markup()
    words = (
        "Mean over all noise levels, with its 95 % interval. Stages of the same data, size and noise schedule can be compared,"
        " others cannot."
    )
    plot = _on_one_axis("Held-out loss of all stages", series, stages)
    return section("Held-out pictures", plot, element("p", words, class_="note"))


def _on_one_axis(title: str, series: Sequence[Series], stages: Sequence[_Placed]) -> Markup:
    marks = [Mark(stage.before, f"stage {stage.name} begins") for stage in stages[1:]]
    plot = Plot(title, "samples seen, all stages together", "loss", series, marks, width=690, height=400)
    narrow = line_plot(replace(plot, width=380, height=270))
    return element("figure", element("div", line_plot(plot), class_="wide"), element("div", narrow, class_="narrow"))


def _number(event: Event, name: str) -> float:
    value = event.number(name)
    return math.nan if value is None else value


SHOWN = {
    "data": "data.source.kind",
    "size, px": "data.transform.size_px",
    "crop": "data.transform.crop.kind",
    "condition": "conditioning.semantic.kind",
    "noise for, px": "process.resolution.from_px",
    "positions": "denoiser.positions.kind",
}
"""What is told of each stage beside the others, and the setting that holds it."""


def cells_of(config: Mapping[str, Any]) -> list[str]:
    """The values of `SHOWN` in a recipe as plain data."""
    values = [lookup(config, name) for name in SHOWN.values()]
    return ["-" if value is None else shown(value) for value in values]


def _overview(stages: Sequence[_Placed]) -> Markup:
    rows: list[list[str]] = []
    for stage in stages:
        rows.append([stage.name, f"{stage.record.samples_seen:,}", *cells_of(stage.record.config), stage.record.state.word])
    return section("Stages", table(rows, ["stage", "samples seen", *SHOWN, "state"]))


def _stage(stage: _Placed) -> Markup:
    """The newest preview of a stage and its receipt; the rest is in its own report."""
    previews = stage.record.previews
    newest = captioned(picture(previews[-1].path.read_bytes(), "Preview"), "newest preview") if previews else Markup()
    where = element(
        "p", f"Its own report: {stage.record.folder.parent.name}/{stage.record.folder.name}/report.html", class_="note"
    )
    return section(f"Stage {stage.name}", newest, where, transfer_section(stage.record, titled=False))
