"""Checkpoints that a study measures on the way of a training: those that are due stay, those of stops go."""

from __future__ import annotations

from pathlib import Path

from open_ldm.checkpoints.checkpoint import CheckpointFolder, remove_checkpoint
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.runs.saving import is_due
from open_ldm.training.settings import TrainingConfig

_NEWEST = 2
"""Checkpoints that stay in any case, as in a run: where the newest is damaged, the one before it serves."""


def is_point(training: TrainingConfig, samples_seen: int) -> bool:
    """Tell whether a checkpoint is measured: it was due, or is the last one, and not saved by a stop in between."""
    return samples_seen >= training.samples or (samples_seen > 0 and is_due(training, samples_seen))


def drop_saved_by_stops(run: Path, training: TrainingConfig) -> None:
    """Remove the checkpoints of stops, except among the newest two of all: a training goes on from one of them.

    A study keeps every due checkpoint of a run; a machine that is taken away a hundred times would fill the disk with others.

    Args:
        run: Folder of the run.
        training: Its settings.
    """
    store = CheckpointFolder(run / "checkpoints")
    for name in store.names()[_NEWEST:]:
        if not is_point(training, samples_seen_of(name)):
            remove_checkpoint(store.root / name)
