"""Controls: one seed, one control swept along a row, for several models; what changes under each value, and what should not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_ldm.commands.sample import check_kind, sample_images
from open_ldm.commands.sample_options import checked_settings
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.pictures import png_bytes, to_picture, to_pixels
from open_ldm.evaluation.metrics.content_change import FLIP, SIZE, compared_attributes
from open_ldm.evaluation.readers import READ_WHEN_COARSE, ShapesReader
from open_ldm.evaluation.readers.base import Reading, mirrored
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.studio.device_queue import Job
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest
from open_ldm.studio.typed import SEPARATED

_COARSE = 4
"""Side of the grid on which pictures are compared where nobody can read them: layout and colour, no detail."""


@dataclass(frozen=True)
class SweepCell:
    """One value of the control.

    Attributes:
        value: As it was asked for.
        png: The picture.
        difference: A map of where it differs from the first one, as PNG; None for the first.
        detail: Mean absolute difference from the first, in percent of the range.
        content: What it shows otherwise than the first one, in words; None for the first.
        changed: Whether that is a change of what the control must leave alone.
    """

    value: str
    png: bytes
    difference: bytes | None
    detail: float
    content: str | None
    changed: bool


@dataclass(frozen=True)
class SweepRow:
    """The cells of one model; `how`: by what content was compared."""

    model: str
    cells: tuple[SweepCell, ...]
    how: str


def sweep(
    models: Models, names: Sequence[str], request: PlayRequest, control: str, values: Sequence[str], job: Job[list[SweepRow]]
) -> list[SweepRow]:
    """Sample one seed under each value of a control, from each of several models.

    Args:
        models: The models.
        names: Which of them; those that lack the control, or one that is fixed, leave it out.
        request: Prompt or class, seed, settings and the controls that stay.
        control: Which one varies.
        values: Its values, two or more, as `ldm sample` takes them.
        job: Ticks.

    Raises:
        ConfigError: A model or a value is unknown, or there are too many or too few values.
    """
    if not 2 <= len(values) <= LIMITS.sweep:
        raise ConfigError(f"{len(values)} values of {control} were given", needed=f"2 to {LIMITS.sweep}, {SEPARATED}")
    runs = [models.load(name) for name in names]
    job.total = sum(checked_settings(run, request.options()).steps for run in runs)
    rows = []
    for name, run in zip(names, runs, strict=True):
        rows.append(_row(name, run, request, control, values, job))
    return rows


def _row(
    name: str, run: LoadedRun, request: PlayRequest, control: str, values: Sequence[str], job: Job[list[SweepRow]]
) -> SweepRow:
    known = [one.asked_as for one in run.recipe.conditioning.controls]
    if control not in known:
        raise ConfigError(
            f"{name} has no control {control!r}", needed=nearest(control, known) if known else "a model with controls"
        )
    options = request.options()
    check_kind(run, options.prompts, options.classes)
    settings = checked_settings(run, options).model_copy(update={"batch_size": 64})
    shown = next(iter((*options.prompts, *options.classes)), None)
    fixed = {option: value for option, value in options.controls.items() if option in known and option != control}
    requests = [SampleRequest(request.seed, shown, {**fixed, control: value}) for value in values]
    before = job.done
    images = sample_images(run, requests, settings, lambda done: job.tick(before + done))
    pixels = as_shown(to_pixels(images), run.recipe.data.display)
    return SweepRow(name, cells_of(control, values, list(pixels), run), _how(control, run))


def cells_of(control: str, values: Sequence[str], pixels: Sequence[Tensor], run: LoadedRun) -> tuple[SweepCell, ...]:
    """Compare the pictures uint8 [C, H, W] of a row with the first of them."""
    words = changes_in_drawings(control, values, pixels) if _is_drawing(run) else changes_of_layout(control, values, pixels)
    first = pixels[0].float()
    cells = []
    for number, (value, one) in enumerate(zip(values, pixels, strict=True)):
        apart = (one.float() - first).abs().mean(0) / 255
        said, changed = words[number]
        cells.append(
            SweepCell(
                value,
                png_bytes(to_picture(one)),
                difference_png(apart) if number else None,
                100 * float(apart.mean()),
                said if number else None,
                changed and number > 0,
            )
        )
    return tuple(cells)


def changes_in_drawings(control: str, values: Sequence[str], pixels: Sequence[Tensor]) -> list[tuple[str, bool]]:
    """Read drawings by rules: for each, what it shows otherwise than the first, in words, and whether anything does."""
    reader = ShapesReader()
    names = compared_attributes(control, reader, READ_WHEN_COARSE if control == SIZE else None)
    readings = reader.read(torch.stack(list(pixels)))
    aligned = [
        mirrored(reading) if control == FLIP and value != values[0] else reading
        for value, reading in zip(values, readings, strict=True)
    ]
    found = []
    for reading in aligned:
        differing = [name for name in names if reading[name] != aligned[0][name]]
        found.append((_said(differing, aligned[0], reading), bool(differing)))
    return found


def changes_of_layout(control: str, values: Sequence[str], pixels: Sequence[Tensor]) -> list[tuple[str, bool]]:
    """Compare pictures on a grid of 4 x 4 cells: the mean absolute difference in percent. It judges nothing."""
    coarse = [torch.nn.functional.adaptive_avg_pool2d(one.float(), _COARSE) for one in pixels]
    aligned = [
        one.flip(-1) if control == FLIP and value != values[0] else one for value, one in zip(values, coarse, strict=True)
    ]
    return [(f"layout differs by {100 * float((one - aligned[0]).abs().mean()) / 255:.1f} %", False) for one in aligned]


def difference_png(apart: Tensor) -> bytes:
    """Return a map [H, W] of differences in 0..1 as PNG: white is none, dark red is all, by its square root."""
    strength = apart.clamp(0, 1).sqrt().numpy()[..., None]
    colours = (1 - strength) * np.array([255, 255, 255]) + strength * np.array([140, 10, 30])
    return png_bytes(Image.fromarray(colours.round().astype(np.uint8)))


def _said(differing: Sequence[str], first: Reading, now: Reading) -> str:
    if not differing:
        return "content stays"
    name = differing[0]
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return f"{name}: {_words(first[name])} → {_words(now[name])}{more}"


def _words(value: object) -> str:
    return " + ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _is_drawing(run: LoadedRun) -> bool:
    return isinstance(run.recipe.data.source, ShapesConfig) and run.known.facts.channels == 3


def _how(control: str, run: LoadedRun) -> str:
    if _is_drawing(run):
        touched = "what the control is there to change"
        left_out = "kinds, which nobody reads off a coarse picture" if control == SIZE else touched
        return f"content as rules read it from drawings, without {left_out}"
    return "layout: mean difference on a grid of 4 x 4 cells"
