"""What is made ahead is what would be made at once, in the same order; errors, stops and ends leave nothing behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.core.launch import processes_here
from open_ldm.data.sample import Batch
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.training.ahead import Ahead, depth_ahead
from open_ldm.training.loop import Hooks, Loop, Report
from open_ldm.training.plan import plan_batches
from tests.training.small_run import (
    BATCH_SIZE,
    CPU,
    all_tensors,
    batches_of,
    copy_of,
    encoder,
    noising,
    same_bits,
    settings,
    small_trainer,
)

PATIENCE_SECONDS = 60


def ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "made-ahead"]


def numbers(stop: int, made: list[int]) -> Iterator[int]:
    for number in range(stop):
        made.append(number)
        yield number


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_come_in_order_once_and_no_more_than_wanted(depth: int) -> None:
    made: list[int] = []
    source = numbers(100, made)
    with Ahead(lambda: next(source), 10, depth, CPU) as ahead:
        assert list(ahead) == list(range(10))
    assert made == list(range(10))
    assert not ahead_threads()


def test_it_works_ahead_as_far_as_it_may_and_rests_when_told() -> None:
    made: list[int] = []
    source = numbers(100, made)
    with Ahead(lambda: next(source), 100, 3, CPU) as ahead:
        next(ahead)
        wait_until(lambda: len(made) == 4)
        with ahead.paused():
            for _ in range(3):
                next(ahead)
            assert len(made) == 4
        wait_until(lambda: len(made) == 7)
    assert len(made) == 7 and not ahead_threads()


def test_an_error_comes_where_its_item_was_asked_for_as_it_is() -> None:
    error = DataError("picture 3 is bad", fix="another one")

    def make() -> int:
        made.append(len(made))
        if len(made) == 4:
            raise error
        return made[-1]

    made: list[int] = []
    with Ahead(make, 10, 5, CPU) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError) as raised:
            next(ahead)
    assert raised.value is error
    assert not ahead_threads()


def test_leaving_early_ends_the_thread_and_leaks_no_descriptor() -> None:
    def once() -> None:
        with pytest.raises(KeyError), Ahead(lambda: torch.zeros(2), 1000, 2, CPU) as ahead:
            next(ahead)
            next(ahead)
            raise KeyError("of the training")

    once()
    before = descriptors()
    for _ in range(20):
        once()
    assert not ahead_threads()
    assert descriptors() == before


def descriptors() -> int:
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


def wait_until(true: object) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_cpu_works_ahead_only_with_a_processor_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert (depth_ahead(CPU, 1), depth_ahead(CPU, 2), depth_ahead(CPU, 100)) == (2, 4, 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert depth_ahead(CPU, 1) == 0
    assert depth_ahead(torch.device("cuda"), 1) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert depth_ahead(CPU, 1) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert depth_ahead(CPU, 1) == 0


def test_processes_on_this_machine_are_counted() -> None:
    assert processes_here({}) == 1
    assert processes_here({"LOCAL_WORLD_SIZE": "4"}) == 4
    step = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "6", "SLURM_TASKS_PER_NODE": "3(x2)"}
    assert processes_here(step) == 3
    assert processes_here({"SLURM_TASKS_PER_NODE": "3(x2)"}) == 1


def trained(depth: int, micro: int | None) -> tuple[dict[str, torch.Tensor], list[float], list[tuple[int, ...]]]:
    """Tensors, losses and positions of a training of six updates."""
    trainer = small_trainer(settings(samples=6 * BATCH_SIZE, log_every_samples=BATCH_SIZE))
    plan = plan_batches(BATCH_SIZE, micro, World())
    reports: list[Report] = []
    read: list[Sequence[int]] = []
    hooks = Hooks(
        report=reports.append,
        batch_read=lambda batch: read.append(batch.positions),
        not_finite=lambda update: None,
        roll_back=lambda: False,
        stop_requested=lambda: False,
    )
    assert Loop(trainer, plan, batches_of(plan), encoder(), hooks, depth).run()
    return copy_of(all_tensors(trainer)), [report.loss for report in reports], [tuple(each) for each in read]


@pytest.mark.parametrize("micro", [None, 2])
def test_training_ahead_is_bit_equal_to_training_at_once(micro: int | None) -> None:
    tensors, losses, read = trained(0, micro)
    for depth in (1, 8):
        now, its_losses, its_read = trained(depth, micro)
        assert same_bits(now, tensors)
        assert (its_losses, its_read) == (losses, read)


class Failing:
    """An encoder that fails at the update numbered 3."""

    def __init__(self) -> None:
        self.encoder = encoder()

    def encode(self, batch: Batch) -> EncodedBatch:
        if batch.positions[0] == 3 * BATCH_SIZE:
            raise DataError("a picture that the autoencoder cannot take")
        return self.encoder.encode(batch)


def test_an_error_of_the_encoder_ends_the_training_after_the_updates_before_it() -> None:
    trainer = small_trainer()
    plan = plan_batches(BATCH_SIZE, None, World())
    hooks = Hooks(lambda report: None, lambda batch: None, lambda update: None, lambda: False, lambda: False)
    with pytest.raises(DataError, match="cannot take"):
        Loop(trainer, plan, batches_of(plan), Failing(), hooks, 4).run()
    assert trainer.state.counters.updates == 3
    assert not ahead_threads()


def test_numbers_that_batches_like_it_were_asked_for_are_drawn_already() -> None:
    drawer, batches = noising(), batches_of(plan_batches(BATCH_SIZE, 4, World()))
    first, second = (encoder().encode(next(batches)) for _ in range(2))
    shape = first.posterior.mean.shape[1:]
    assert not drawer.draw(first).draws.made
    drawer.draw(first).draws.normal("noise", shape)
    drawer.draw(first).draws.uniform("mask", (5,))
    ready = drawer.draw(second).draws
    assert set(ready.made) == {("normal", "noise", tuple(shape)), ("uniform", "mask", (5,))}
    fresh = noising().draw(second).draws
    assert torch.equal(ready.normal("noise", shape), fresh.normal("noise", shape))
    assert ready.normal("noise", shape) is ready.normal("noise", shape)
    assert torch.equal(ready.uniform("mask", (5,)), fresh.uniform("mask", (5,)))
    wider = replace(second, posterior=replace(second.posterior, mean=torch.zeros(4, 3, 8, 16)))
    assert not drawer.draw(wider).draws.made  # another shape was asked for nothing yet
