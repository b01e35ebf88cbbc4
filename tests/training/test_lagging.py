"""Updates that are not waited for: what the device decides is what the host would have, one update later."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from open_ldm.autoencoders import Posterior
from open_ldm.core.distributed import World
from open_ldm.core.seeds import Draws
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.training.loop import Every, Hooks, Loop, Report
from open_ldm.training.plan import plan_batches
from open_ldm.training.trainer import DiffusionTrainer
from open_ldm.training.update import Update
from tests.helpers import DENOISERS
from tests.training.small_run import (
    BATCH_SIZE,
    all_tensors,
    batches_of,
    copy_of,
    micro_batches,
    run_updates,
    same_bits,
    settings,
    small_trainer,
)
from tests.training.test_loop import BadPictures

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "item", "is_nonzero", "equal"}


def spoiled(batch: EncodedBatch) -> EncodedBatch:
    return replace(batch, posterior=Posterior(torch.full_like(batch.posterior.mean, float("nan"))))


@pytest.mark.parametrize("bad", [set(), {1, 2}, {0}])
def test_a_begun_update_is_the_same_as_one_that_is_waited_for(bad: set[int]) -> None:
    waiting, lagging = small_trainer(), small_trainer()
    waited, late = [], []
    for number in range(5):
        given = micro_batches(waiting, 4)
        given = [spoiled(batch) for batch in given] if number in bad else given
        waited.append(waiting.update(given))
        late.append(lagging.begin(given))
    late.append(lagging.settle())
    assert late[0] is None and lagging.settle() is None
    assert [str(update) for update in late[1:]] == [str(update) for update in waited]
    assert [update.applied for update in waited] == [number not in bad for number in range(5)]
    assert lagging.state.counters == waiting.state.counters
    assert same_bits(all_tensors(lagging), all_tensors(waiting))


class Syncs(TorchDispatchMode):
    """Operations that would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in WAITS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", DENOISERS)
def test_nothing_in_an_update_waits_for_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draws, "shared_uniform", lambda draws, purpose: 0.5)  # drawn on the CPU, whatever the device
    trainer = small_trainer(denoiser=DENOISERS[kind])
    given = [trainer.prepared(batch) for batch in micro_batches(trainer)]
    with Syncs() as syncs:
        trainer.begin(given)
    assert syncs.found == []
    with Syncs() as syncs:
        trainer.settle()
    assert syncs.found or trainer.state.counters.updates == 1  # numbers are read here alone


@dataclass
class Run:
    """A lagging loop that saves, rolls back and may be stopped and resumed, in memory."""

    bad: set[int]
    trainer: DiffusionTrainer
    stop_at: int | None = None
    saved: tuple[Any, Any] | None = None
    told: list[str] = field(default_factory=list)
    skipped_at: list[int] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.trainer.state.counters.samples_seen // BATCH_SIZE

    def save(self) -> None:
        files = {group: copy_of(dict(tensors)) for group, tensors in self.trainer.state.tensors().items()}
        self.saved = files, self.trainer.state.counters_to_json()

    def roll_back(self) -> bool:
        self.told.append(f"back at {self.seen}")
        assert self.saved is not None
        self.trainer.state.restore(*self.saved)
        return True

    def not_finite(self, update: Update) -> None:
        self.told.append("skipped")
        self.skipped_at.append(update.samples_seen // BATCH_SIZE)

    def run(self, *, lags: bool = True) -> bool:
        hooks = Hooks(
            report=self.reports.append,
            batch_read=lambda batch: None,
            not_finite=self.not_finite,
            roll_back=self.roll_back,
            stop_requested=lambda: self.stop_at is not None and self.seen >= self.stop_at - 1,
            every=[Every(5 * BATCH_SIZE, self.save)],
        )
        plan = plan_batches(BATCH_SIZE, None, World())
        batches = batches_of(plan, self.trainer.state.counters.samples_seen)
        return Loop(self.trainer, plan, batches, BadPictures(self.bad), hooks, 2, lags).run()  # type: ignore[arg-type]


def trainer_of(updates: int) -> DiffusionTrainer:
    return small_trainer(settings(samples=updates * BATCH_SIZE, log_every_samples=5 * BATCH_SIZE))


@pytest.mark.parametrize("bad", [set(), {2, 3}])
def test_a_lagging_training_ends_as_one_that_waits(bad: set[int]) -> None:
    late, waiting = Run(bad, trainer_of(10)), Run(bad, trainer_of(10))
    assert late.run() and waiting.run(lags=False)
    assert same_bits(all_tensors(late.trainer), all_tensors(waiting.trainer))
    assert late.trainer.state.counters == waiting.trainer.state.counters
    assert [(each.loss, each.grad_norm, each.learning_rate) for each in late.reports] == [
        (each.loss, each.grad_norm, each.learning_rate) for each in waiting.reports
    ]
    assert late.told == waiting.told == ["skipped"] * len(bad)
    assert late.skipped_at == waiting.skipped_at == [number + 1 for number in sorted(bad)]


def test_after_too_many_it_goes_back_one_update_later_or_where_something_is_due() -> None:
    run = Run({6, 7, 8, 9}, trainer_of(14))
    assert run.run()
    assert run.told == ["skipped"] * 4 + ["back at 10"]  # the fourth is the last before a report
    run = Run({5, 6, 7, 8}, trainer_of(14))
    assert run.run()
    assert run.told == ["skipped"] * 4 + ["back at 10"]  # update 9 had begun
    assert run.trainer.state.counters.samples_seen == 14 * BATCH_SIZE


@pytest.mark.parametrize("stop_at", [8, 9])
def test_a_stop_among_skipped_updates_changes_nothing(stop_at: int) -> None:
    bad = {5, 6, 7, 8}
    whole, stopped = Run(bad, trainer_of(14)), Run(bad, trainer_of(14), stop_at)
    assert whole.run() and not stopped.run()
    rolls_back_to = stopped.saved
    stopped.save()
    resumed = Run(bad, trainer_of(14), saved=rolls_back_to, told=stopped.told)
    assert stopped.saved is not None
    resumed.trainer.state.restore(*stopped.saved)
    assert resumed.run()
    assert resumed.told == whole.told
    assert same_bits(all_tensors(resumed.trainer), all_tensors(whole.trainer))
    assert resumed.trainer.state.counters == whole.trainer.state.counters


def test_a_cpu_waits_for_each_update() -> None:
    trainer = small_trainer()
    assert not trainer.lags
    assert len(run_updates(trainer, 1)) == 1
