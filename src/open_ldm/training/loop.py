"""The training loop: read, encode, update, report, until all samples are seen, a stop is requested, or numbers stay bad."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from open_ldm.core.errors import NonFiniteError
from open_ldm.training.plan import BatchPlan
from open_ldm.training.trainer import Trainer, Update

MAX_SKIPPED_IN_ROW = 3
MAX_SKIPPED_SHARE = 0.001
MAX_ROLLBACKS = 2


@dataclass(frozen=True)
class Report:
    """What is reported now and then.

    Attributes:
        samples_seen: By the model.
        loss: Mean since the last report; NaN where no update was applied.
        grad_norm: Mean since the last report, before clipping.
        learning_rate: Of the last update.
        samples_per_second: Over all processes.
        data_wait_share: Share of the time spent waiting for pictures, 0 to 1.
    """

    samples_seen: int
    loss: float
    grad_norm: float
    learning_rate: float
    samples_per_second: float
    data_wait_share: float


@dataclass(frozen=True)
class Every:
    """Call `action` whenever another `samples` have been seen, and when training ends; 0 is never."""

    samples: int
    action: Callable[[], None]


@dataclass
class Hooks:
    """What the loop calls on the way.

    Attributes:
        report: Called with averages.
        batch_read: Called with every batch as it was read.
        not_finite: Called with an update that was skipped.
        roll_back: Restores the last good state; returns False where there is none.
        stop_requested: Whether this process has been asked to stop.
        every: Further actions and how often.
    """

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
    """Makes what the trainer learns from of what is read."""

    def encode(self, batch: Any) -> B_co:
        """Encode a batch on the training device."""


class Loop(Generic[B]):
    """Runs a trainer to the end of its samples.

    Args:
        trainer: Makes the updates.
        plan: How a global batch is cut.
        batches: This process's micro-batches from the trainer's position on, as `encoder` takes them.
        encoder: Encodes them.
        hooks: What is called on the way.
    """

    def __init__(
        self, trainer: Trainer[Any, B], plan: BatchPlan, batches: Iterator[Any], encoder: Encoder[B], hooks: Hooks
    ) -> None:
        self.trainer, self.plan, self.batches, self.encoder, self.hooks = trainer, plan, batches, encoder, hooks

    def run(self) -> bool:
        """Train.

        A stop that any process requests ends all of them after the same update.

        Returns:
            True when all samples have been seen, False when a stop was requested.

        Raises:
            NonFiniteError: Loss or gradients stayed infinite or NaN after the last good weights were restored twice, or there
                were none, or no update was applied, or not the last one (docs/reliability.md, 3.8).
        """
        config, counters = self.trainer.config, self.trainer.state.counters
        meter = _Meter()
        while counters.samples_seen < config.samples:
            before = counters.samples_seen
            micro_batches, waited = self._read()
            stopping = self.trainer.world.any(self.hooks.stop_requested())
            update = self.trainer.update(micro_batches)
            if not update.applied:
                self._not_finite(update)
                counters = self.trainer.state.counters
            meter.add(update, config.batch_size, waited)
            finished = counters.samples_seen >= config.samples or stopping
            if finished or _passed(before, counters.samples_seen, config.log_every_samples):
                self.hooks.report(meter.report(counters.samples_seen, update.learning_rate))
                meter = _Meter()
            if stopping and counters.samples_seen < config.samples:
                return False
            started = time.perf_counter()
            for hook in self.hooks.every:
                if _passed(before, counters.samples_seen, hook.samples) or (finished and hook.samples):
                    hook.action()
            meter.since += time.perf_counter() - started
        self._require_applied()
        return True

    def _require_applied(self) -> None:
        """Raise NonFiniteError where nothing was learned, or nothing any more at the end: such a run is not done."""
        counters = self.trainer.state.counters
        if counters.updates and not counters.skipped_in_row:
            return
        failed = f"the last {counters.skipped_in_row} updates" if counters.updates else "all updates"
        raise NonFiniteError(
            f"{failed} up to {counters.samples_seen:,} samples were skipped, since loss or gradient was not finite",
            needed="a last update that is applied",
            fix="another --out with a lower training.optimizer.learning_rate, or with training.dtype=float32",
        )

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
        """Report a skipped update; after too many, restore the last good weights and go on with the data that follow."""
        self.hooks.not_finite(update)
        counters = self.trainer.state.counters
        attempted = counters.updates + counters.skipped
        too_many = counters.skipped > max(MAX_SKIPPED_IN_ROW, MAX_SKIPPED_SHARE * attempted)
        if counters.skipped_in_row <= MAX_SKIPPED_IN_ROW and not too_many:
            return
        position, rollbacks = counters.samples_seen, counters.rollbacks + 1
        if rollbacks > MAX_ROLLBACKS or not self.hooks.roll_back():
            raise NonFiniteError(
                f"the loss or its gradient was not finite for {counters.skipped_in_row} updates in a row"
                f" at {position:,} samples ({counters.skipped} in all)",
                fix="lower training.optimizer.learning_rate, or set training.dtype=float32",
            )
        # The same data would fail the same way, so the old weights go on with the data after it.
        restored = self.trainer.state.counters
        restored.samples_seen, restored.rollbacks, restored.skipped, restored.skipped_in_row = position, rollbacks, 0, 0


def _passed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return every > 0 and before // every != now // every
