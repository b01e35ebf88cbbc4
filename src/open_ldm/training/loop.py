"""The training loop: read, encode, update, report, until all samples are seen, a stop is requested, or numbers stay bad."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from open_ldm.core.errors import NonFiniteError
from open_ldm.training.ahead import Ahead, depth_ahead
from open_ldm.training.plan import BatchPlan
from open_ldm.training.trainer import Trainer
from open_ldm.training.update import Update

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
    """Call `action` whenever another `samples` have been seen, and when training ends; 0 is never.

    Attributes:
        samples: How often.
        action: What is done.
        done: Whether it was done where training begins; if not, and it was due there, it is made up. None where it never is.
    """

    samples: int
    action: Callable[[], None]
    done: Callable[[], bool] | None = None


@dataclass
class Hooks:
    """What the loop calls on the way.

    Attributes:
        report: Called with averages.
        batch_read: Called with every batch as it was read.
        not_finite: Called with an update that was skipped.
        roll_back: Restores the last good state; returns False where there is none.
        stop_requested: Whether this process has been asked to stop.
        after_update: Called after every update, while the next one may be under way; it neither waits nor uses the device.
        every: Further actions and how often.
    """

    report: Callable[[Report], None]
    batch_read: Callable[[Any], None]
    not_finite: Callable[[Update], None]
    roll_back: Callable[[], bool]
    stop_requested: Callable[[], bool]
    after_update: Callable[[], None] = lambda: None
    every: list[Every] = field(default_factory=list)


class _Meter:
    """Sums what the next report averages."""

    def __init__(self) -> None:
        self.loss = self.grad_norm = self.waited = self.rate = 0.0
        self.applied = self.samples = 0
        self.since = time.perf_counter()

    def read(self, samples: int, waited: float) -> None:
        """Count samples that were read, and the seconds that they were waited for."""
        self.samples += samples
        self.waited += waited

    def add(self, update: Update) -> None:
        """Take in an update; one that was left out has no loss."""
        self.rate = update.learning_rate
        if update.applied:
            self.applied += 1
            self.loss += update.loss
            self.grad_norm += update.grad_norm

    def report(self, samples_seen: int) -> Report:
        """Return means over the applied updates and speeds since the last report."""
        seconds = max(time.perf_counter() - self.since, 1e-9)
        applied = max(self.applied, 1)
        mean = (self.loss / applied, self.grad_norm / applied) if self.applied else (float("nan"), float("nan"))
        return Report(samples_seen, *mean, self.rate, self.samples / seconds, self.waited / seconds)


B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Encoder(Protocol[B_co]):
    """Makes what the trainer learns from of what is read."""

    def encode(self, batch: Any) -> B_co:
        """Encode a batch on the training device."""


@dataclass(frozen=True)
class _Made(Generic[B]):
    """A micro-batch that is ready to learn from, what it was read as, and how many seconds the reading took."""

    batch: Any
    ready: B
    read_seconds: float


class Loop(Generic[B]):
    """Runs a trainer to the end of its samples.

    Args:
        trainer: Makes the updates.
        plan: How a global batch is cut.
        batches: This process's micro-batches from the trainer's position on, as `encoder` takes them.
        encoder: Encodes them.
        hooks: What is called on the way.
        depth: How many micro-batches are made ahead by a thread; None for `depth_ahead`.
        lags: Whether the outcome of an update is looked at when the next one has begun; None where that keeps a device busy.
    """

    def __init__(
        self,
        trainer: Trainer[Any, B],
        plan: BatchPlan,
        batches: Iterator[Any],
        encoder: Encoder[B],
        hooks: Hooks,
        depth: int | None = None,
        lags: bool | None = None,
    ) -> None:
        self.trainer, self.plan, self.batches, self.encoder, self.hooks = trainer, plan, batches, encoder, hooks
        self.lags = trainer.lags if lags is None else lags
        self.depth = depth_ahead(trainer.device, plan.micro_batches) if depth is None else depth

    def run(self) -> bool:
        """Train; what was due where training begins, and is not done, comes first.

        A stop that any process requests ends all of them after the same update.

        Returns:
            True when all samples have been seen, False when a stop was requested.

        Raises:
            NonFiniteError: Loss or gradients stayed infinite or NaN after the last good weights were restored twice, or there
                were none, or no update was applied, or not the last one (docs/reliability.md, 3.8).
        """
        self._make_up()
        config = self.trainer.config
        left = -(-(config.samples - self.trainer.state.counters.samples_seen) // config.batch_size)
        try:
            with Ahead(self._make, max(0, left) * self.plan.micro_batches, self.depth, self.trainer.device) as ahead:
                finished = self._updates(ahead)
        finally:
            if isinstance(self.batches, Generator):
                self.batches.close()
        if finished:
            self._require_applied()
        return finished

    def _make_up(self) -> None:
        """Do what was due at the position that training goes on from, since a stop, or a kill, came before it."""
        config, seen = self.trainer.config, self.trainer.state.counters.samples_seen
        for hook in self.hooks.every if seen else ():
            due = passed(seen - config.batch_size, seen, hook.samples) or (hook.samples and seen >= config.samples)
            if due and hook.done is not None and not hook.done():
                hook.action()

    def _updates(self, ahead: Ahead[_Made[B]]) -> bool:
        """Make updates until all samples are seen; False where a stop came before."""
        config, counters = self.trainer.config, self.trainer.state.counters
        meter = _Meter()
        while counters.samples_seen < config.samples:
            before = counters.samples_seen
            micro_batches, waited = self._next(ahead)
            stopping = self.trainer.world.any(self.hooks.stop_requested())
            meter.read(config.batch_size, waited)
            for update in self._updated(micro_batches, before, stopping):
                meter.add(update)
            self.hooks.after_update()
            counters = self.trainer.state.counters
            finished = counters.samples_seen >= config.samples or stopping
            if finished or passed(before, counters.samples_seen, config.log_every_samples):
                self.hooks.report(meter.report(counters.samples_seen))
                meter = _Meter()
            if stopping and counters.samples_seen < config.samples:
                return False
            started = time.perf_counter()
            for hook in self.hooks.every:
                if passed(before, counters.samples_seen, hook.samples) or (finished and hook.samples):
                    with ahead.paused():
                        hook.action()
            meter.since += time.perf_counter() - started
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

    def _updated(self, micro_batches: list[B], before: int, stopping: bool) -> Iterator[Update]:
        """Make an update, and give those whose outcome is known by now, with what follows from a skipped one.

        On an accelerator that is the one before, so that the device need not be waited for; where anything is due after this
        update, it is this one too. A stop comes at any time: what follows from its update then waits for the next one, as it
        would have without the stop.
        """
        if not self.lags:
            update = self.trainer.update(micro_batches)
            if not update.applied:
                self.hooks.not_finite(update)
                self._judge()
            yield update
            return
        known = self.trainer.begin(micro_batches)
        if known is not None:
            yield known
            if not known.applied:
                self.hooks.not_finite(known)
        if self.trainer.state.counters.skipped_in_row:  # by the update before, perhaps before a stop
            self._judge()
        seen, config = self.trainer.state.counters.samples_seen, self.trainer.config
        every = [config.log_every_samples, *(hook.samples for hook in self.hooks.every)]
        due = seen >= config.samples or any(passed(before, seen, samples) for samples in every)
        if (due or stopping) and (last := self.trainer.settle()) is not None:
            yield last
            if not last.applied:
                self.hooks.not_finite(last)
                if due:
                    self._judge()

    def _make(self) -> _Made[B]:
        """Read the next micro-batch, encode it and draw its random numbers."""
        started = time.perf_counter()
        batch = next(self.batches)
        seconds = time.perf_counter() - started
        return _Made(batch, self.trainer.prepared(self.encoder.encode(batch)), seconds)

    def _next(self, ahead: Ahead[_Made[B]]) -> tuple[list[B], float]:
        """The micro-batches of one update, and the seconds spent waiting for pictures."""
        ready, waited = [], 0.0
        for _ in range(self.plan.micro_batches):
            started = time.perf_counter()
            made = next(ahead)
            waited += min(made.read_seconds, time.perf_counter() - started)
            self.hooks.batch_read(made.batch)
            ready.append(made.ready)
        return ready, waited

    def _judge(self) -> None:
        """After too many skipped updates, restore the last good weights and go on with the data that follow."""
        counters = self.trainer.state.counters
        attempted = counters.updates + counters.skipped
        too_many = counters.skipped > max(MAX_SKIPPED_IN_ROW, MAX_SKIPPED_SHARE * attempted)
        if counters.skipped_in_row <= MAX_SKIPPED_IN_ROW and not too_many:
            return
        position, rollbacks = counters.samples_seen, counters.rollbacks + 1
        row, skipped = counters.skipped_in_row, counters.skipped
        self.trainer.settle()  # what was begun since is of no use any more
        if rollbacks > MAX_ROLLBACKS or not self.hooks.roll_back():
            raise NonFiniteError(
                f"the loss or its gradient was not finite for {row} updates in a row"
                f" at {position:,} samples ({skipped} in all)",
                fix="lower training.optimizer.learning_rate, or set training.dtype=float32",
            )
        # The same data would fail the same way, so the old weights go on with the data after it.
        restored = self.trainer.state.counters
        restored.samples_seen, restored.rollbacks, restored.skipped, restored.skipped_in_row = position, rollbacks, 0, 0


def passed(before: int, now: int, every: int) -> bool:
    """Return whether a multiple of `every` lies in (before, now]; 0 has none."""
    return every > 0 and before // every != now // every
