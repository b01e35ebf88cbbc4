"""compare.html: several runs on one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from open_ldm.commands.compare import ComparedRun, Comparison
from open_ldm.commands.differing import ABSENT
from open_ldm.commands.sample import sample_pixels
from open_ldm.core.counted import counted
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.files import write_text
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.content import Figure, Head, Link, Part, Picture, Table, figure, link_to, render_page
from open_ldm.run_folder.history import HELD_OUT
from open_ldm.run_folder.report.evaluation import protocols
from open_ldm.run_folder.report.training import axis_for, curve_of
from open_ldm.runs.load import load_run
from open_ldm.sampling.requests import SampleRequest

_COLUMNS = 8


@dataclass(frozen=True)
class Values:
    """The table of all runs, and what to know when reading it."""

    values: Table
    notes: Sequence[str]


@dataclass(frozen=True)
class Samples:
    """A grid for each run that could be sampled; `failed`: why others could not."""

    grids: Sequence[Picture]
    failed: Sequence[str]


@dataclass(frozen=True)
class SampledGrid:
    """Pictures of one run, or why there are none. `shown`: the prompt or class of each; `settings`: how they were sampled."""

    name: str
    pixels: Tensor | None
    shown: Sequence[str]
    settings: str
    reason: str = ""


def require_page(out: Path) -> None:
    """Raise ConfigError where the page would be written in the place of a folder; before anything is sampled for it."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder", needed="the name of a file", fix=f"--out {out / 'compare.html'}")


def sample_grids(runs: Sequence[ComparedRun], count: int) -> list[SampledGrid]:
    """Sample `count` pictures of every run from the seeds 0, 1, ..., with what the first run's previews show."""
    shown = next((preview.shown for run in runs for preview in reversed(run.history.previews) if preview.shown), ())
    return [_grid(run, count, shown) for run in runs] if count else []


def _grid(run: ComparedRun, count: int, shown: Sequence[str]) -> SampledGrid:
    try:
        loaded = load_run(run.path)
        says = loaded.recipe.conditioning.semantic.kind != "none" and bool(shown)
        prompts = [shown[i % len(shown)] or None if says else None for i in range(count)]
        requests = [SampleRequest(seed, what) for seed, what in enumerate(prompts)]
        settings = loaded.recipe.sampling
        words = f"{settings.solver}, {counted(settings.steps, 'step')}, semantic scale {settings.guidance.semantic_scale:g}"
        words += f", control scale {settings.guidance.control_scale:g}, at {loaded.samples_seen:,} samples seen"
        pixels = as_shown(sample_pixels(loaded, requests, settings), loaded.recipe.data.display)
        return SampledGrid(run.name, pixels, [what or "" for what in prompts], words)
    except OpenLdmError as error:
        return SampledGrid(run.name, None, (), "", error.one_line())


def write_page(found: Comparison, grids: Sequence[SampledGrid], out: Path) -> Path:
    """Write the page. Raises DiskError when the disk refuses."""
    names = [run.name if link is None else link for run, link in ((run, _report(run, out)) for run in found.runs)]
    measured = [value.result.protocol for row in found.rows for value in row.values if value is not None]
    shown = protocols(measured)
    parts = [
        Part("What differs", "compare/values.html", _settings(found, names, out)),
        Part("Values", "compare/values.html", _values(found, names)),
        Part("Training", "figures.html", [_losses(found.runs)]),
        _held_out(found.runs),
        _samples(grids),
        Part("Protocols", "protocols.html", shown) if shown else None,
    ]
    head = Head("Runs compared", links=[each for each in names if isinstance(each, Link)])
    write_text(out, render_page(head, parts, "comparison"))
    return out


def _report(run: ComparedRun, out: Path) -> Link | None:
    """The run's own page, if there is one."""
    page = run.path / "report.html"
    return link_to(page, out, text=run.name) if page.is_file() else None


def _settings(found: Comparison, names: Sequence[str | Link], out: Path) -> Values:
    """The settings that differ, and each run's files."""
    rows: list[Sequence[str | Link]] = [[one.setting, *one.values] for one in found.differing]
    for said, file in (("recipe", "config.yaml"), ("measured", "evaluation.json")):
        paths = [run.path / file for run in found.runs]
        rows.append([said, *(link_to(path, out, text=file) if path.is_file() else ABSENT for path in paths)])
    notes = [] if found.differing else ["No setting differs between the recipes."]
    return Values(Table(rows, ["", *names]), notes)


def _values(found: Comparison, names: Sequence[str | Link]) -> Values:
    (corner, *_), *rows = found.table()
    star = any(difference and difference.clear for row in found.rows for difference in row.differences)
    starred = ["* differs clearly from the first run's: the interval of the difference does not hold 0."] if star else []
    notes = [*starred, *(f"Not compared: {text}." for text in found.apart), *found.notes]
    return Values(Table(rows, [corner, *names]), notes)


def _losses(runs: Sequence[ComparedRun]) -> Figure:
    series = [curve_of(run.history.named("train"), "loss", run.name, smooth=True) for run in runs]
    note = "Loss: each record faint, running mean strong. Comparable only where objective, prediction and latents are the same."
    return _figure("Training loss", series, note)


def _held_out(runs: Sequence[ComparedRun]) -> Part | None:
    """Over training, and by noise level at the end."""
    measured = [(run.name, events) for run in runs if (events := run.history.named(HELD_OUT))]
    if not measured:
        return None
    over = [curve_of(events, "mean", name) for name, events in measured]
    note = "Mean over all noise levels. Comparable only where pictures, prediction, schedule and latents are the same."
    figures = [_figure("Held-out loss", over, note)]
    levels = [
        Series(name, times, values)
        for name, events in measured
        if isinstance(times := events[-1].fields.get("times"), list)
        and isinstance(values := events[-1].fields.get("levels"), list)
    ]
    if levels:
        figures.append(_figure("Held-out loss by noise level", levels, "At the end (t = 0: data, 1: noise).", x_title="t"))
    return Part("Held-out loss", "figures.html", figures)


def _figure(title: str, series: Sequence[Series], note: str, x_title: str = "samples seen") -> Figure:
    return figure(
        Plot(title, x_title, "loss", series, y_axis=axis_for(series), width=820, height=380), note, narrow_px=(380, 280)
    )


def _samples(grids: Sequence[SampledGrid]) -> Part | None:
    if not grids:
        return None
    pictures = [
        Picture(
            f"{one.name}: {one.settings}",
            png_bytes(grid(one.pixels, _COLUMNS, captions=one.shown if any(one.shown) else None)),
            f"pictures of {one.name}",
        )
        for one in grids
        if one.pixels is not None
    ]
    failed = [f"{one.name} could not be sampled: {one.reason}" for one in grids if one.pixels is None]
    return Part("Samples", "compare/samples.html", Samples(pictures, failed))
