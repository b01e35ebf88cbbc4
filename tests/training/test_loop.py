from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from open_ldm.autoencoders import Posterior
from open_ldm.core.distributed import World
from open_ldm.core.errors import NonFiniteError
from open_ldm.data.sample import Batch
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.training.loop import Every, Hooks, Loop, Report
from open_ldm.training.plan import plan_batches
from open_ldm.training.update import Update
from tests.training.small_run import (
    BATCH_SIZE,
    all_tensors,
    batches_of,
    copy_of,
    encoder,
    same_bits,
    settings,
    small_trainer,
)


class BadPictures:
    """An encoder that gives NaN latents for the updates in `bad` (numbered from 0)."""

    def __init__(self, bad: set[int]) -> None:
        self.bad, self.encoder = bad, encoder()

    def encode(self, batch: Batch) -> EncodedBatch:
        encoded = self.encoder.encode(batch)
        if batch.positions[0] // BATCH_SIZE in self.bad:
            return replace(encoded, posterior=Posterior(torch.full_like(encoded.posterior.mean, float("nan"))))
        return encoded


@dataclass
class Run:
    """A loop whose hooks write down what they are told; saving and rolling back happen in memory."""

    updates: int = 10
    bad: set[int] = field(default_factory=set)
    stop_at: int | None = None
    micro: int | None = None

    def __post_init__(self) -> None:
        self.trainer = small_trainer(settings(samples=self.updates * BATCH_SIZE))
        self.saved: tuple[Any, Any] | None = None
        self.saved_at: list[int] = []
        self.previews: list[int] = []
        self.reports: list[Report] = []
        self.not_finite: list[Update] = []
        self.rolled_back_at: list[int] = []
        self.read: list[tuple[int, ...]] = []

    @property
    def seen(self) -> int:
        return self.trainer.state.counters.samples_seen // BATCH_SIZE

    def save(self) -> None:
        files = {group: copy_of(dict(tensors)) for group, tensors in self.trainer.state.tensors().items()}
        self.saved = files, self.trainer.state.counters_to_json()
        self.saved_at.append(self.seen)

    def roll_back(self) -> bool:
        self.rolled_back_at.append(self.seen)
        if self.saved is None:
            return False
        self.trainer.state.restore(*self.saved)
        return True

    def run(self, save_every: int = 4) -> bool:
        hooks = Hooks(
            report=self.reports.append,
            batch_read=lambda batch: self.read.append(batch.positions),
            not_finite=self.not_finite.append,
            roll_back=self.roll_back,
            stop_requested=lambda: self.stop_at is not None and self.seen >= self.stop_at - 1,
            every=[
                Every(save_every * BATCH_SIZE, self.save),
                Every(0, lambda: self.previews.append(-1)),
                Every(3 * BATCH_SIZE, lambda: self.previews.append(self.seen)),
            ],
        )
        plan = plan_batches(BATCH_SIZE, self.micro, World())
        return Loop(self.trainer, plan, batches_of(plan), BadPictures(self.bad), hooks).run()  # type: ignore[arg-type]


def test_every_sample_once_and_hooks_on_time() -> None:
    run = Run(micro=4)
    assert run.run() is True
    assert [position for positions in run.read for position in positions] == list(range(10 * BATCH_SIZE))
    assert run.saved_at == [4, 8, 10]
    assert run.previews == [3, 6, 9, 10]  # and once more at the end
    assert [report.samples_seen // BATCH_SIZE for report in run.reports] == [2, 4, 6, 8, 10]
    assert all(report.loss > 0 and report.samples_per_second > 0 for report in run.reports)
    assert all(0 <= report.data_wait_share <= 1 for report in run.reports)


def test_a_finished_run_does_nothing_more() -> None:
    run = Run(updates=2)
    run.run()
    before, read = copy_of(all_tensors(run.trainer)), len(run.read)
    assert run.run() is True
    assert same_bits(all_tensors(run.trainer), before)
    assert len(run.read) == read


def test_a_stop_ends_after_the_update_it_arrived_in() -> None:
    run = Run(stop_at=5)
    assert run.run() is False
    assert run.seen == 5
    assert run.reports[-1].samples_seen == 5 * BATCH_SIZE


@dataclass(frozen=True)
class OthersStop(World):
    """Other processes, of which one has been asked to stop during the third update."""

    asked: list[bool] = field(default_factory=list)

    def any(self, flag: bool) -> bool:
        self.asked.append(flag)
        return flag or len(self.asked) == 3


def test_a_stop_of_another_process_ends_this_one_after_the_same_update() -> None:
    run, world = Run(), OthersStop()
    run.trainer.world = world
    assert run.run() is False
    assert run.seen == 3
    assert world.asked == [False, False, False]  # they ask each other once an update


def test_up_to_three_bad_updates_are_skipped() -> None:
    run = Run(bad={2, 3, 4})
    assert run.run() is True
    assert run.rolled_back_at == []
    assert len(run.not_finite) == 3
    done = run.trainer.state.counters
    assert (done.updates, done.skipped, done.skipped_in_row, done.rollbacks) == (7, 3, 0, 0)
    assert all(report.loss == report.loss for report in run.reports if report.samples_seen != 4 * BATCH_SIZE)


def test_a_report_with_nothing_applied_says_nan() -> None:
    run = Run(bad={2, 3})
    run.run()
    by_time = {report.samples_seen // BATCH_SIZE: report.loss for report in run.reports}
    assert by_time[4] != by_time[4]
    assert by_time[6] == by_time[6]


@pytest.mark.parametrize("bad", [{7, 8, 9, 10}, {0, 2, 5, 7}], ids=["in a row", "too many in all"])
def test_the_fourth_rolls_back_and_goes_on_with_the_data_after_it(bad: set[int]) -> None:
    run = Run(updates=14, bad=bad)
    assert run.run(save_every=6) is True
    assert run.rolled_back_at == [max(bad) + 1]
    assert [position for positions in run.read for position in positions] == list(range(14 * BATCH_SIZE))
    done = run.trainer.state.counters
    assert (done.rollbacks, done.skipped, done.samples_seen) == (1, 0, 14 * BATCH_SIZE)
    assert done.updates == 14 - 4 - 1  # the four bad ones, and the good one since the save


def test_after_two_rollbacks_it_ends() -> None:
    run = Run(updates=40, bad=set(range(6, 40)))
    with pytest.raises(NonFiniteError, match=r"not finite for 4 updates in a row at 144 samples.*; fix: ") as caught:
        run.run()
    assert caught.value.exit_code == 70
    assert "\n" not in str(caught.value)
    assert run.rolled_back_at == [10, 14]


def test_without_a_checkpoint_to_go_back_to_it_ends() -> None:
    run = Run(updates=10, bad=set(range(10)))
    with pytest.raises(NonFiniteError):
        run.run(save_every=1000)
    assert run.rolled_back_at == [4]


@pytest.mark.parametrize(("updates", "bad"), [(3, {0, 1, 2}), (6, {3, 4, 5}), (6, {5})])
def test_a_run_whose_last_updates_were_skipped_is_not_done(updates: int, bad: set[int]) -> None:
    run = Run(updates=updates, bad=bad)
    failed = "all updates" if len(bad) == updates else f"the last {len(bad)} updates"
    for _ in range(2):  # the same again, when the finished run is started once more
        with pytest.raises(NonFiniteError, match=f"{failed} up to {updates * BATCH_SIZE:,} samples were skipped") as caught:
            run.run()
        assert caught.value.exit_code == 70
    assert run.saved_at[-1] == updates
