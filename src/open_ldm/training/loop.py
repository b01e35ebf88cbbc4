"""The training loop: read, encode, update, report; until done, stopped or beyond saving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from open_ldm.core.errors import NonFiniteError
from open_ldm.training.plan import BatchPlan
from open_ldm.training.trainer import Learner, Update

MAX_SKIPPED_IN_ROW = 3
MAX_SKIPPED_SHARE = 0.001
MAX_ROLLBACKS = 2


@dataclass(frozen=True)
class Report:
    """Averages since the last report."""

    samples_seen: int
    loss: float
    grad_norm: float
    learning_rate: float
    samples_per_second: float
    data_wait_share: float


@dataclass(frozen=True)
class Every:
    """Do `action` whenever another `samples` have been seen, and when training ends; 0 means never."""

    samples: int
    action: Callable[[], None]


@dataclass
class Hooks:
    """What the loop calls on the way. `batch_read` gets what the reader yields; `roll_back` restores the last good state and
    returns False if there is none."""

    report: Callable[[Report], None]
    batch_read: Callable[[Any], None]
    not_finite: Callable[[Update], None]
    roll_back: Callable[[], bool]
    stop_requested: Callable[[], bool]
    every: list[Every] = field(default_factory=list)


class _Meter:
    """Sums what the next report averages."""

    def __init__(self) -> None:
        self.loss = self.grad_norm = self.waited = 0.0
        self.updates = self.applied = self.samples = 0
        self.since = time.perf_counter()

    def add(self, update: Update, samples: int, waited: float) -> None:
        self.updates += 1
        self.samples += samples
        self.waited += waited
        if update.applied:
            self.applied += 1
            self.loss += update.loss
            self.grad_norm += update.grad_norm

    def report(self, samples_seen: int, learning_rate: float) -> Report:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        applied = max(self.applied, 1)
        mean = (self.loss / applied, self.grad_norm / applied) if self.applied else (float("nan"), float("nan"))
        return Report(samples_seen, *mean, learning_rate, self.samples / seconds, self.waited / seconds)


B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Encoder(Protocol[B_co]):
    """What a reader yields -> what the trainer learns from."""

    def encode(self, batch: Any) -> B_co:
        """All that training reads of a batch, on the training device."""


class Loop(Generic[B]):
    """Runs a trainer to the end of its samples. `batches`: this process's micro-batches from the current position on, as
    `encoder` takes them."""

    def __init__(
        self, trainer: Learner[Any, B], plan: BatchPlan, batches: Iterator[Any], encoder: Encoder[B], hooks: Hooks
    ) -> None:
        self.trainer, self.plan, self.batches, self.encoder, self.hooks = trainer, plan, batches, encoder, hooks

    def run(self) -> bool:
        """True when all samples have been seen, False when a stop was requested. Raises NonFiniteError beyond saving."""
        config, done = self.trainer.config, self.trainer.progressed
        meter = _Meter()
        while done.samples_seen < config.samples:
            before = done.samples_seen
            micro_batches, waited = self._read()
            update = self.trainer.update(micro_batches, self.hooks.stop_requested())
            if not update.applied:
                self._not_finite(update)
                done = self.trainer.progressed
            meter.add(update, config.batch_size, waited)
            finished = done.samples_seen >= config.samples or update.stop_requested
            if finished or _passed(before, done.samples_seen, config.log_every_samples):
                self.hooks.report(meter.report(done.samples_seen, update.learning_rate))
                meter = _Meter()
            if update.stop_requested and done.samples_seen < config.samples:
                return False
            started = time.perf_counter()
            for hook in self.hooks.every:
                if _passed(before, done.samples_seen, hook.samples) or (finished and hook.samples):
                    hook.action()
            meter.since += time.perf_counter() - started
        return True

    def _read(self) -> tuple[list[B], float]:
        """The encoded micro-batches of one update, and the seconds spent waiting for pictures."""
        encoded, waited = [], 0.0
        for _ in range(self.plan.micro_batches):
            started = time.perf_counter()
            batch = next(self.batches)
            waited += time.perf_counter() - started
            self.hooks.batch_read(batch)
            encoded.append(self.encoder.encode(batch))
        return encoded, waited

    def _not_finite(self, update: Update) -> None:
        """Skip it; after too many go back to the last good weights and on with the data that follows."""
        self.hooks.not_finite(update)
        done = self.trainer.progressed
        attempted = done.updates + done.skipped
        too_many = done.skipped > max(MAX_SKIPPED_IN_ROW, MAX_SKIPPED_SHARE * attempted)
        if done.skipped_in_row <= MAX_SKIPPED_IN_ROW and not too_many:
            return
        position, rollbacks = done.samples_seen, done.rollbacks + 1
        if rollbacks > MAX_ROLLBACKS or not self.hooks.roll_back():
            raise NonFiniteError(
                f"loss or gradient was not finite {done.skipped_in_row} updates in a row at {position:,} samples"
                f" ({done.skipped} in all)",
                fix="lower training.optimizer.learning_rate, or use training.dtype=float32",
            )
        # The same data would fail the same way, so the old weights go on with the data after it.
        restored = self.trainer.progressed
        restored.samples_seen, restored.rollbacks, restored.skipped, restored.skipped_in_row = position, rollbacks, 0, 0


def _passed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return every > 0 and before // every != now // every
