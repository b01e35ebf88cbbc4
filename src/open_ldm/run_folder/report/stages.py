"""The page of a run in stages: all of them on one axis, then each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.events import duration
from open_ldm.core.files import write_text
from open_ldm.pages.charts import Mark, Plot, Series
from open_ldm.pages.content import Fact, Figure, Head, Link, Part, Picture, Table, figure, link_to, render_page
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.history import HELD_OUT, RunHistory, RunState, busy_seconds, lookup, read_history
from open_ldm.run_folder.report.data import shown
from open_ldm.run_folder.report.evaluation import evaluation_part
from open_ldm.run_folder.report.files import files_part, recipe_part
from open_ldm.run_folder.report.held_out import mean_with_interval
from open_ldm.run_folder.report.sampled import sampled_part
from open_ldm.run_folder.report.samples import preview_picture
from open_ldm.run_folder.report.training import curve_of
from open_ldm.run_folder.report.transfer import Transferred, transferred


@dataclass(frozen=True)
class _Placed:
    """A stage, and how many samples the stages before it saw."""

    name: str
    history: RunHistory
    before: int


@dataclass(frozen=True)
class Curves:
    """Curves of all stages, and what to know when reading them."""

    figure: Figure
    note: str


@dataclass(frozen=True)
class ShownStage:
    """The newest preview of a stage and its receipt; the rest is in its own report."""

    newest: Picture | None
    report: Link
    transfer: Transferred | None


def write_stages_report(out: Path) -> Path:
    """Write `out`/report.html from the folders of its stages. Returns the page's path; raises DiskError when it cannot."""
    stages: list[_Placed] = []
    before = 0
    for folder in RunFolder(out).parts:
        history = read_history(folder.path)
        if history.events:
            stages.append(_Placed(folder.path.name.partition("-")[2], history, before))
            before += history.samples_seen
    path = out / "report.html"
    write_text(path, _render(out, stages))
    return path


def _render(out: Path, stages: Sequence[_Placed]) -> str:
    whole = read_history(out)
    parts = [
        _losses(stages),
        _held_out(stages),
        evaluation_part(out, stages[-1].history.samples_seen if stages else 0),
        sampled_part(out),
        _overview(out, stages),
        *(_stage(whole, stage) for stage in stages),
        files_part(out),
        recipe_part(whole.config_text),
    ]
    return render_page(_head(whole, stages), parts, "run report")


def _head(whole: RunHistory, stages: Sequence[_Placed]) -> Head:
    seen = sum(stage.history.samples_seen for stage in stages)
    seconds = sum(busy_seconds(stage.history.events) for stage in stages)
    listed = whole.config.get("stages")
    of = f"{len(stages)} of {len(listed)}" if isinstance(listed, list) and len(listed) > len(stages) else f"{len(stages)}"
    state = whole.state if RunFolder(whole.folder).exit.is_file() else RunState("running", "busy")
    return Head(
        title=whole.folder.resolve().name,
        subtitle="a run in stages, each starting from the weights of the one before",
        state=state.word,
        tone=state.tone,
        reason=state.reason,
        facts=[Fact("Stages", of), Fact("Samples seen", f"{seen:,}"), Fact("Time", duration(seconds))],
    )


def _losses(stages: Sequence[_Placed]) -> Part:
    series = [curve_of(each.history.named("train"), "loss", each.name, smooth=True, before=each.before) for each in stages]
    note = (
        "Losses of stages that differ in picture size, noise schedule or data measure different things: a step between two"
        " stages is no step forwards or backwards by itself."
    )
    return Part("Training", "stages/curves.html", Curves(_on_one_axis("Loss of all stages", series, stages), note))


def _held_out(stages: Sequence[_Placed]) -> Part | None:
    """The loss on held-out pictures of the stages that measured it."""
    measured = [(stage, events) for stage in stages if (events := stage.history.named(HELD_OUT))]
    if not measured:
        return None
    series = [mean_with_interval(events, stage.name, stage.before) for stage, events in measured]
    note = (
        "Mean over all noise levels, with its 95 % interval. Stages of the same data, size and noise schedule can be compared,"
        " others cannot."
    )
    plot = _on_one_axis("Held-out loss of all stages", series, stages)
    return Part("Held-out pictures", "stages/curves.html", Curves(plot, note))


def _on_one_axis(title: str, series: Sequence[Series], stages: Sequence[_Placed]) -> Figure:
    marks = [Mark(stage.before, f"stage {stage.name} begins") for stage in stages[1:]]
    return figure(Plot(title, "samples seen, all stages together", "loss", series, marks, width=690, height=400))


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


def _overview(out: Path, stages: Sequence[_Placed]) -> Part | None:
    rows: list[list[str | Link]] = []
    for stage in stages:
        history = stage.history
        named = Link(stage.name, _report(out, stage).href)
        rows.append([named, f"{history.samples_seen:,}", *cells_of(history.config), history.state.word])
    return Part("Stages", "table.html", Table(rows, ["stage", "samples seen", *SHOWN, "state"])) if rows else None


def _stage(whole: RunHistory, stage: _Placed) -> Part:
    previews = stage.history.previews
    newest = preview_picture(stage.history, previews[-1], page_of=whole) if previews else None
    content = ShownStage(newest, _report(whole.folder, stage), transferred(stage.history.transfer))
    return Part(f"Stage {stage.name}", "stages/stage.html", content)


def _report(out: Path, stage: _Placed) -> Link:
    return link_to(stage.history.folder / "report.html", out / "report.html")
