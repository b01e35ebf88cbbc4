"""The curves of a run as lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.events import Event
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.history import HELD_OUT, read_history


@dataclass(frozen=True)
class History:
    """The curves of a run, each list as long as the `samples_seen` beside it; what a resume did again counts once.

    Attributes:
        samples_seen: How many samples had been seen; of a run in stages, over all of them.
        loss: The mean training loss since the record before.
        learning_rate: The learning rate of the last update.
        grad_norm: The mean gradient norm since the record before.
        samples_per_second: The speed since the record before.
        held_out_samples_seen: Where the loss on held-out pictures was measured.
        held_out_loss: That loss.
    """

    samples_seen: list[int]
    loss: list[float]
    learning_rate: list[float]
    grad_norm: list[float]
    samples_per_second: list[float]
    held_out_samples_seen: list[int]
    held_out_loss: list[float]


def read_curves(folder: Path) -> History:
    """Read the curves of a run folder; of a run in stages, those of all stages one after the other."""
    curves = History([], [], [], [], [], [], [])
    before = 0
    for part in RunFolder(folder).parts:
        history = read_history(part.path)
        for event in history.named("train"):
            curves.samples_seen.append(before + event.samples_seen)
            curves.loss.append(_number(event, "loss"))
            curves.learning_rate.append(_number(event, "learning_rate"))
            curves.grad_norm.append(_number(event, "grad_norm"))
            curves.samples_per_second.append(_number(event, "samples_per_second"))
        for event in history.named(HELD_OUT):
            curves.held_out_samples_seen.append(before + event.samples_seen)
            curves.held_out_loss.append(_number(event, "mean"))
        before += history.samples_seen
    return curves


def _number(event: Event, name: str) -> float:
    value = event.number(name)
    return float("nan") if value is None else value
