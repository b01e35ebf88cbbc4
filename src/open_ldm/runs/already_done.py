"""Whether what is due where a training begins was done there before: a stop, or a kill, may have come in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.core.events import effective_events, read_events
from open_ldm.run_folder.folder import RunFolder
from open_ldm.training.trainer import Trainer


def is_told(name: str, folder: RunFolder, trainer: Trainer[Any, Any]) -> Callable[[], bool]:
    """Return what finds out whether the event log tells of an event where a training stands.

    Args:
        name: Of the event.
        folder: The run folder.
        trainer: Knows where it stands; all its processes call what is returned together.
    """

    def read() -> bool:
        events = effective_events(read_events(folder.events))
        return any(event.name == name and event.samples_seen == trainer.state.counters.samples_seen for event in events)

    return lambda: trainer.world.everyone(read, "a read of the event log")


def has_averages(folder: RunFolder, trainer: Trainer[Any, Any]) -> Callable[[], bool]:
    """Return what finds out whether there is a snapshot of the averages where a training stands; arguments as `is_told`."""

    def look() -> bool:
        seen = trainer.state.counters.samples_seen
        return any(samples_seen_of(name) == seen for name in CheckpointFolder(folder.averages).names())

    return lambda: trainer.world.everyone(look, "a look at the snapshots")
