"""compare.html: several runs on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from open_ldm.commands.compare import ComparedRun, Comparison
from open_ldm.commands.sample import draw
from open_ldm.core.display import as_shown
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.files import write_text
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.pages.figures import Plot, Series, line_plot
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.held_out import EVENT
from open_ldm.runs.load import load_run
from open_ldm.runs.report.page import page
from open_ldm.runs.report.sections import captioned, picture, section, table
from open_ldm.sampling.requests import SampleRequest

_COLUMNS = 8


@dataclass(frozen=True)
class DrawnGrid:
    """Pictures of one run, or why there are none. `shown`: what each was asked to show; `settings`: how it was drawn."""

    name: str
    pixels: Tensor | None
    shown: Sequence[str]
    settings: str
    reason: str = ""


def draw_grids(runs: Sequence[ComparedRun], count: int) -> list[DrawnGrid]:
    """`count` pictures of every run from the seeds 0, 1, ..., all asked for the same: what the first run's previews show."""
    shown = next((preview.shown for run in runs for preview in reversed(run.record.previews) if preview.shown), ())
    return [_grid(run, count, shown) for run in runs] if count else []


def _grid(run: ComparedRun, count: int, shown: Sequence[str]) -> DrawnGrid:
    try:
        loaded = load_run(run.path)
        says = loaded.recipe.conditioning.semantic.kind != "none" and bool(shown)
        asked = [shown[i % len(shown)] or None if says else None for i in range(count)]
        requests = [SampleRequest(seed, what) for seed, what in enumerate(asked)]
        settings = loaded.recipe.sampling
        words = f"{settings.solver}, {settings.steps} steps, semantic scale {settings.guidance.semantic_scale:g}"
        words += f", control scale {settings.guidance.control_scale:g}, at {loaded.samples_seen:,} samples seen"
        pixels = as_shown(draw(loaded, requests, settings), loaded.recipe.data.display)
        return DrawnGrid(run.name, pixels, [what or "" for what in asked], words)
    except OpenLdmError as error:
        return DrawnGrid(run.name, None, (), "", error.one_line())


def write_page(found: Comparison, grids: Sequence[DrawnGrid], out: Path) -> Path:
    """Write the page. Raises DiskError when the disk refuses."""
    names = " · ".join(run.name for run in found.runs)
    content = [
        element("header", element("h1", "Runs compared"), element("p", names, class_="subtitle")),
        _values(found),
        _curves(found.runs),
        _held_out(found.runs),
        _grids(grids),
        _protocols(found),
    ]
    write_text(out, page("Runs compared", content, what="comparison"))
    return out


def _values(found: Comparison) -> Markup:
    header, *rows = found.table()
    star = any(difference and difference.clear for row in found.rows for difference in row.differences)
    starred = "* differs clearly from the first run's: the interval of the difference does not hold 0." if star else ""
    told = [*([starred] if starred else []), *(f"Not compared: {text}." for text in found.apart), *found.notes]
    return section("Values", table(rows, header), joined(element("p", text, class_="note") for text in told))


def _curves(runs: Sequence[ComparedRun]) -> Markup:
    series = [_series(run, "train", "loss", smooth=True) for run in runs]
    return section("Training", _figure("Training loss", series, "Loss: each record faint, running mean strong. "
        "Comparable only where objective, prediction and latents are the same."))  # fmt: skip


def _held_out(runs: Sequence[ComparedRun]) -> Markup:
    """Over training, and by noise level at the end."""
    measured = [run for run in runs if run.record.named(EVENT)]
    if not measured:
        return Markup()
    over = _figure("Held-out loss", [_series(run, EVENT, "mean") for run in measured], "Mean over all noise levels.")
    last = [(run, run.record.named(EVENT)[-1].fields) for run in measured]
    levels = [
        Series(run.name, times, values)
        for run, fields in last
        if isinstance(times := fields.get("times"), list) and isinstance(values := fields.get("levels"), list)
    ]
    by_level = _figure("Held-out loss by noise level", levels, "At the end (t = 0: data, 1: noise).", x_title="t")
    return section("Held-out loss", over, by_level if levels else Markup())


def _figure(title: str, series: Sequence[Series], note: str, x_title: str = "samples seen") -> Markup:
    positive = [value for one in series for value in one.y if math.isfinite(value) and value > 0]
    steep = bool(positive) and max(positive) > 4 * min(positive)
    plot = Plot(title, x_title, "loss", series, y_axis="log" if steep else "linear", width=820, height=380)
    wide = element("div", line_plot(plot), class_="wide")
    narrow = element("div", line_plot(replace(plot, width=380, height=280)), class_="narrow")
    return captioned(joined([wide, narrow]), note)


def _series(run: ComparedRun, event: str, field: str, smooth: bool = False) -> Series:
    events = run.record.named(event)
    values = [math.nan if (value := each.number(field)) is None else value for each in events]
    return Series(run.name, [each.samples_seen for each in events], values, smooth=smooth)


def _grids(grids: Sequence[DrawnGrid]) -> Markup:
    drawn = []
    for one in grids:
        if one.pixels is None:
            drawn.append(element("p", f"{one.name} could not draw: {one.reason}", class_="note"))
            continue
        captions = one.shown if any(one.shown) else None
        png = png_bytes(grid(one.pixels, _COLUMNS, captions=captions))
        drawn.append(captioned(picture(png, f"pictures of {one.name}"), f"{one.name}: {one.settings}"))
    words = element("p", "Every run draws from the same noise (seeds 0, 1, ...) and is asked for the same.")
    return section("Samples", words, *drawn) if drawn else Markup()


def _protocols(found: Comparison) -> Markup:
    """What decides each number."""
    protocols: dict[str, Mapping[str, str]] = {}
    for value in (value for row in found.rows for value in row.values if value is not None):
        protocols.setdefault(value.result.protocol.id, value.result.protocol.entries)
    folded = [
        element(
            "details", element("summary", f"{name}: {entries['metric']}"), table([[key, text] for key, text in entries.items()])
        )
        for name, entries in protocols.items()
    ]
    return section("Protocols", *folded)
