"""The part of a run's report that shows the curves of its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from open_ldm.core.events import Event
from open_ldm.pages.charts import Mark, Plot, Series
from open_ldm.pages.content import Figure, Part, figure
from open_ldm.run_folder.history import RunHistory
from open_ldm.run_folder.reference_curve import reference_under


@dataclass(frozen=True)
class Training:
    """The loss, and small figures beside it."""

    loss: Figure
    small: Sequence[Figure]


def training_part(history: RunHistory) -> Part | None:
    """Loss large, learning rate and throughput small; None before the first logged update."""
    train = history.named("train")
    if not train:
        return None
    marks = [
        *(Mark(event.samples_seen, f"resumed at {event.samples_seen:,} samples") for event in history.named("resume")),
        *(Mark(event.samples_seen, f"not finite at {event.samples_seen:,} samples") for event in history.named("nonfinite")),
    ]
    loss = curve_of(train, "loss", "loss", smooth=True)
    reference = reference_under(history)
    under = [] if reference is None else [reference.loss.series("reference")]
    plot = Plot("Loss", "samples seen", "loss", [loss, *under], marks, y_axis=axis_for([loss]), width=690, height=400)
    noted = f"Loss: each record faint, running mean strong{', dashed: resumed or not finite' if marks else ''}."
    if reference is not None:
        noted += f" Reference, with the band of its seeds: {reference.sentence}."
    small = [
        _small(train, "learning_rate", "Learning rate", "learning rate"),
        _small(train, "samples_per_second", "Throughput", "samples/s"),
    ]
    content = Training(figure(plot, noted), [one for one in small if one is not None])
    return Part("Training", "run/training.html", content)


def curve_of(events: Sequence[Event], field: str, name: str, *, smooth: bool = False, before: int = 0) -> Series:
    """A field of events over samples seen, `before` added; NaN where an event lacks it."""
    values = [number_of(event, field) for event in events]
    return Series(name, [before + event.samples_seen for event in events], values, smooth=smooth)


def number_of(event: Event, field: str) -> float:
    """A numeric field; NaN where the event lacks it."""
    value = event.number(field)
    return math.nan if value is None else value


def axis_for(series: Sequence[Series]) -> Literal["linear", "log"]:
    """A log axis where curves span so much that it shows more."""
    positive = [value for one in series for value in one.y if math.isfinite(value) and value > 0]
    return "log" if positive and max(positive) > 4 * min(positive) else "linear"


def _small(train: Sequence[Event], field: str, title: str, unit: str) -> Figure | None:
    curve = curve_of(train, field, field)
    if not any(math.isfinite(value) for value in curve.y):
        return None
    plot = Plot(title, "samples seen", unit, [curve], from_zero=True, width=380, height=200)
    return figure(plot, f"{title}.", narrow_px=None)
