"""The checkpoints of a run that is training: written beside it where that helps, else while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from open_ldm.checkpoints.background import BackgroundSaves, Done
from open_ldm.checkpoints.checkpoint import Checkpoint
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.errors import DiskFullError
from open_ldm.core.failure import LostProcessError
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.averages import forget_averages, keep_averages, snapshot_is_due
from open_ldm.training.loop import passed
from open_ldm.training.settings import TrainingConfig
from open_ldm.training.trainer import Trainer

_LEAVE_SECONDS = 600.0
_LEAVE_THE_LOST_SECONDS = 5.0
"""So long a run that ends by an error waits for a save under way; the second where a process that takes part in it is lost."""


class Teller(Protocol):
    """What writes events and shows lines, such as the recorder of a run."""

    def event_at(self, samples_seen: int, event: str, /, **fields: Any) -> object:
        """Append to the event log, as of so many samples."""

    def warn(self, message: str) -> None:
        """Say and write down what went wrong."""

    def say(self, text: str) -> None:
        """Show a line."""


class Saving:
    """Writes the checkpoints of a training; all processes call each method together, after the same update.

    Snapshots of averages that are later than where the training stands are removed: they are of updates that were lost.

    A model in shards, and one on an accelerator, is saved beside training where memory allows. A whole model on the CPU is
    not: there the thread that hashes takes its time from training.

    Args:
        store: Where they lie, RUN/checkpoints.
        trainer: Holds the state.
        content: Gives the manifest's further entries.
        teller: Is told of each save.
    """

    def __init__(
        self, store: SharedCheckpoints, trainer: Trainer[Any, Any], content: Callable[[], Mapping[str, Any]], teller: Teller
    ) -> None:
        self._store, self._trainer, self._content, self._teller = store, trainer, content, teller
        self._averages = RunFolder(store.root.parent).averages
        self._background = BackgroundSaves(store)
        self._refusal = ""
        forget_averages(self._averages, trainer)

    @property
    def beside(self) -> bool:
        """Whether a save goes on beside training, as far as memory allows."""
        return self._trainer.sharing.in_shards or self._trainer.device.type != "cpu"

    def save(self) -> None:
        """Write a checkpoint before training goes on. Raises DiskError where the disk refuses."""
        self.take(wait=True)
        state, started = self._trainer.state, time.perf_counter()
        seen, shards = state.counters.samples_seen, self._trainer.sharing.in_shards
        saved = self._store.save_of_all(seen, state.tensors(), self._content(), shards=shards)
        seconds = time.perf_counter() - started
        self._tell(Done(saved, seen, seconds, seconds))

    def begin(self) -> None:
        """Write a checkpoint, in the background where that is possible; the last one of a run is waited for.

        Raises:
            DiskError: The disk refuses.
        """
        self.take(wait=True)
        state, shards = self._trainer.state, self._trainer.sharing.in_shards
        seen = state.counters.samples_seen
        beside = self.beside and seen < self._trainer.config.samples
        if beside and self._background.begin(seen, state.tensors(), self._content(), shards=shards):
            return
        if self._background.refusal != self._refusal:
            self._refusal = self._background.refusal
            self._teller.say(f"training waits for saves: {self._refusal}")
        self.save()

    def keep_averages(self) -> None:
        """Write a snapshot of averages by powers, where one is due. Raises DiskFullError at the end of a run."""
        if not snapshot_is_due(self._trainer.config, self._trainer.state.counters.samples_seen):
            return
        keep = partial(keep_averages, self._averages, self._trainer)
        with self.pause("a snapshot of the averages"):
            self.if_room(keep, "no snapshot of the averages was kept")

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint; snapshots of updates that are taken back go. Errors as `Trainer.restore`."""
        self._trainer.restore(checkpoint)
        forget_averages(self._averages, self._trainer)

    def if_room(self, action: Callable[[], None], otherwise: str) -> None:
        """Act; on a full disk training goes on, and what was to be done comes again at the next interval. The end is different.

        Args:
            action: What to do.
            otherwise: What is said where there is no room.

        Raises:
            DiskFullError: The disk is full at the end of the run.
        """
        try:
            action()
        except DiskFullError as error:
            if self._trainer.state.counters.samples_seen >= self._trainer.config.samples:
                raise
            self._no_room(otherwise, error)

    def take(self, *, wait: bool = False) -> None:
        """Write down what became of a save under way, once it has ended.

        Args:
            wait: Until it has.

        Raises:
            OpenLdmError: It failed. A full disk is no reason to: training goes on, and the next save tries again.
        """
        try:
            done = self._ended(wait=wait)
        except DiskFullError as error:
            self._no_room("nothing was saved", error)
            return
        if done is not None:
            self._tell(done)

    def _ended(self, *, wait: bool) -> Done | None:
        if not wait or not self._background.under_way:
            return self._background.ended()
        with self.pause("the end of a save beside training"):
            return self._background.ended(wait=True)

    @contextmanager
    def pause(self, reason: str) -> Iterator[None]:
        """Context manager that writes down how long training stood still for what has no event of its own.

        Args:
            reason: What it waits for.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            if seconds := round(time.perf_counter() - started, 3):
                seen = self._trainer.state.counters.samples_seen
                self._teller.event_at(seen, "paused", reason=reason, seconds=seconds)

    def leave(self, error: BaseException) -> None:
        """Let a save under way end before the run does, by an error."""
        self._background.leave(_LEAVE_THE_LOST_SECONDS if isinstance(error, LostProcessError) else _LEAVE_SECONDS)

    def _no_room(self, otherwise: str, error: DiskFullError) -> None:
        self._teller.warn(f"{otherwise}, since the disk is full ({error.problem}): training goes on and tries again")

    def _tell(self, done: Done) -> None:
        fields = {"name": done.saved.path.name, "bytes": done.saved.bytes, "seconds": round(done.seconds, 2)}
        if done.waited_seconds < done.seconds:
            fields["waited_seconds"] = round(done.waited_seconds, 3)
        self._teller.event_at(done.samples_seen, "checkpoint", **fields)


def is_due(training: TrainingConfig, samples_seen: int) -> bool:
    """Return whether a training saves at a position by its interval, and not because it was asked to stop there."""
    return passed(samples_seen - training.batch_size, samples_seen, training.checkpoint_every_samples)
