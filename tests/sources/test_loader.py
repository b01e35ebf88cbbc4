from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from open_ldm.core.config import validate
from open_ldm.core.errors import DataError
from open_ldm.data.order import reserve_at, sample_at
from open_ldm.data.sample import BadPicture, Batch, Sample, SourceSummary
from open_ldm.data.transforms import LocalCrop, TransformConfig
from open_ldm.sources.loader import DataConfig, default_workers, read_batches, read_view
from open_ldm.sources.shapes import ShapesConfig

TRANSFORM = TransformConfig(size_px=16, crop=LocalCrop(scale_px=20), flip=0.5)


class Numbers:
    """A source whose sample i is a picture filled with i; some samples are bad, and all of them when `all_bad`."""

    class_names = ()
    fingerprint = ""

    def __init__(self, length: int, bad: Sequence[int] = (), captions: bool = False, all_bad: bool = False) -> None:
        self.length, self.bad, self.captioned, self.all_bad = length, set(bad), captions, all_bad

    @property
    def summary(self) -> SourceSummary:
        return SourceSummary(self.length, 0, self.length if self.captioned else 0, "numbers")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad or self.all_bad:
            raise BadPicture("not a picture", f"number {index}")
        captions = tuple(f"{index} {name}" for name in "abc") if self.captioned and index % 5 else ()
        return Sample(str(index), np.full((20, 20, 3), index % 256, dtype=np.uint8), 20, 20, captions=captions)

    def sample_id(self, index: int) -> str:
        return str(index)

    def size_of(self, index: int) -> tuple[int, int]:
        return (20, 20)

    def captions(self) -> list[str]:
        return []


class FailsAt(Numbers):
    """Raises `error` for one sample."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(64)
        self.index, self.error = index, error

    def __getitem__(self, index: int) -> Sample:
        if index == self.index:
            raise self.error
        return super().__getitem__(index)


class Slow(Numbers):
    def __getitem__(self, index: int) -> Sample:
        time.sleep(0.05)
        return super().__getitem__(index)


def ranges(start: int, batch: int, count: int) -> list[range]:
    return [range(start + i * batch, start + (i + 1) * batch) for i in range(count)]


def read(source: Numbers, positions: Sequence[Sequence[int]], workers: int = 0, seed: int = 0) -> list[Batch]:
    return list(read_batches(source, TRANSFORM, seed=seed, position_ranges=positions, workers=workers))


def same(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.pixels, b.pixels)
        and (a.ids, a.positions, a.records, a.captions, a.bad) == (b.ids, b.positions, b.records, b.captions, b.bad)
        and (a.labels is b.labels or torch.equal(a.labels, b.labels))
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers: int) -> None:
    shapes = ShapesConfig(length=50).open()
    source = Numbers(50, bad=[3, 30], captions=True)
    for one in (shapes, source):
        alone = read(one, ranges(0, 8, 15))
        assert same(alone, read(one, ranges(0, 8, 15), workers))
        assert not same(alone, read(one, ranges(0, 8, 15), seed=1))


def test_a_restart_at_any_position_changes_nothing() -> None:
    source = Numbers(37, bad=[5], captions=True)
    whole = read(source, ranges(0, 4, 24))
    for start in (1, 9, 10, 23):
        assert same(whole[start:], read(source, ranges(4 * start, 4, 24 - start), workers=start % 2))


def test_batch_size_changes_no_view() -> None:
    source = Numbers(37, bad=[5], captions=True)
    large, small = read(source, ranges(0, 24, 4)), read(source, ranges(0, 8, 12))
    assert torch.equal(torch.cat([b.pixels for b in large]), torch.cat([b.pixels for b in small]))
    assert [c for b in large for c in b.captions or ()] == [c for b in small for c in b.captions or ()]


def test_each_epoch_visits_every_sample_once() -> None:
    for workers in (0, 2):
        batches = read(Numbers(40), ranges(0, 8, 10), workers)
        ids = [name for batch in batches for name in batch.ids]
        assert sorted(ids[:40], key=int) == sorted(ids[40:], key=int) == [str(i) for i in range(40)]
        assert ids[:40] != ids[40:]
        assert [p for batch in batches for p in batch.positions] == list(range(80))


def test_a_bad_sample_is_replaced_reported_and_shifts_no_other() -> None:
    whole, holed = Numbers(40), Numbers(40, bad=[7])
    (before,), (after,) = read(whole, [range(40)]), read(holed, [range(40)])
    place = before.ids.index("7")
    assert [(bad.id, bad.reason, bad.detail) for bad in after.bad] == [("7", "not a picture", "number 7")]
    assert after.ids[:place] == before.ids[:place]
    assert after.ids[place + 1 :] == before.ids[place + 1 :]
    assert after.ids[place] == str(reserve_at(0, place, 0, 40))
    assert after.records == before.records
    assert before.bad == ()


def test_a_bad_replacement_is_replaced_too() -> None:
    bad = [i for i in range(40) if i not in (11, 12)]
    view = read_view(Numbers(40, bad=bad), TRANSFORM, 0, 0)
    assert view.view.id in ("11", "12")
    assert len(view.bad) >= 1
    assert view.bad[0].id == str(sample_at(0, 0, 40))


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_samples_ends_in_one_line(workers: int) -> None:
    with pytest.raises(DataError, match=r"65 samples in a row cannot be used, the last one \d+ \(not a picture\)"):
        read(Numbers(40, all_bad=True), ranges(0, 4, 2), workers)


def test_captions_are_drawn_by_position_and_missing_ones_are_empty() -> None:
    (batch,) = read(Numbers(40, captions=True), [range(4000)])
    assert batch.captions is not None
    drawn = [caption[-1] for caption, name in zip(batch.captions, batch.ids, strict=True) if int(name) % 5]
    assert {letter: drawn.count(letter) / len(drawn) for letter in "abc"} == pytest.approx(
        dict.fromkeys("abc", 1 / 3), abs=0.04
    )
    assert all((caption == "") == (int(name) % 5 == 0) for caption, name in zip(batch.captions, batch.ids, strict=True))
    assert read(Numbers(40), [range(8)])[0].captions is None


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_a_worker_arrive_as_they_are(workers: int) -> None:
    error = DataError("the disk is gone", needed="a disk", fix="plug it in")
    with pytest.raises(DataError) as raised:
        read(FailsAt(9, error), ranges(0, 8, 8), workers)
    assert type(raised.value) is DataError
    assert str(raised.value) == "the disk is gone; needed: a disk; fix: plug it in"
    assert raised.value.fix == "plug it in"
    with pytest.raises(ZeroDivisionError):
        read(FailsAt(9, ZeroDivisionError()), ranges(0, 8, 8), workers)


@pytest.mark.parametrize("error", [ZeroDivisionError(), DataError("the disk is gone")])
def test_workers_are_gone_when_an_error_arrives(error: Exception) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(type(error)) as held:
        read(FailsAt(9, error), ranges(0, 8, 8), workers=2)
    assert set(multiprocessing.active_children()) <= before
    assert held.value is not None


def endless() -> Iterator[range]:
    return (range(4 * i, 4 * i + 4) for i in itertools.count())


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.02)
    return condition()


def test_endless_reading_ends_when_closed() -> None:
    before = set(multiprocessing.active_children())
    batches = read_batches(Numbers(40), TRANSFORM, seed=0, position_ranges=endless(), workers=2)
    assert [next(batches).positions[0] for _ in range(30)] == list(range(0, 120, 4))
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    batches.close()
    assert wait_until(lambda: not any(process.is_alive() for process in started))


def test_workers_ignore_stop_signals_and_a_dead_one_is_one_line() -> None:
    before = set(multiprocessing.active_children())
    batches = read_batches(Slow(40), TRANSFORM, seed=0, position_ranges=endless(), workers=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid or 0, number)
    assert [next(batches).positions[0] for _ in range(4)] == [4, 8, 12, 16]
    assert worker.is_alive()
    os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(DataError, match="a data worker died") as raised:
        for _ in range(50):
            next(batches)
    assert "\n" not in str(raised.value)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    read(Numbers(40), ranges(0, 4, 3), workers=1)
    assert torch.equal(torch.rand(4), expected)


def test_config(tmp_path: Path) -> None:
    content = {"source": {"kind": "folder", "path": str(tmp_path)}, "transform": {"size_px": 32}}
    config = validate(DataConfig, content, source="test")
    assert config.workers is None
    assert validate(DataConfig, config.model_dump(mode="json"), source="test") == config
    assert 0 <= default_workers() <= 8
