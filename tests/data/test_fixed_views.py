"""Fixed views: as many per picture as asked for, in turn, and the same in every run."""

from __future__ import annotations

import pytest
import torch

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.data.order import FIXED_VIEWS_SEED, fixed_view, sample_at, view_at
from open_ldm.data.sample import Batch
from open_ldm.data.transforms import LocalCrop, TransformConfig
from open_ldm.sources.loader import DataConfig, read_batches, read_fixed_views, read_view
from tests.encoded.cache.small_data import Pictures

TRANSFORM = TransformConfig(size_px=8, crop=LocalCrop(scale_px=12), flip=0.5)


def epoch(source: Pictures, number: int, views: int | None, seed: int = 3, workers: int = 0) -> Batch:
    positions = range(number * len(source), (number + 1) * len(source))
    (batch,) = read_batches(source, TRANSFORM, seed=seed, position_ranges=[positions], workers=workers, views=views)
    return batch


def by_sample(batch: Batch) -> torch.Tensor:
    return batch.pixels[torch.tensor(batch.indices).argsort()]


def test_place_of_a_view() -> None:
    for position in (0, 9, 10, 57):
        index = sample_at(4, position, 10)
        fresh = view_at(4, position, 10, None)
        assert (fresh.index, fresh.view, fresh.seed, fresh.number) == (index, None, 4, position)
        fixed = view_at(4, position, 10, 3)
        assert fixed == fixed_view(index, position // 10 % 3, 10)
        assert (fixed.seed, fixed.number) == (FIXED_VIEWS_SEED, fixed.view * 10 + index if fixed.view else index)


def test_views_come_in_turn_and_repeat() -> None:
    source = Pictures()
    epochs = [by_sample(epoch(source, number, 3)) for number in range(5)]
    assert torch.equal(epochs[0], epochs[3]) and torch.equal(epochs[1], epochs[4])
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])
    fresh = [by_sample(epoch(source, number, None)) for number in (0, 3)]
    assert not torch.equal(*fresh)


def test_views_depend_neither_on_the_seed_nor_on_how_many_there_are() -> None:
    source = Pictures()
    assert torch.equal(by_sample(epoch(source, 1, 2, seed=3)), by_sample(epoch(source, 1, 4, seed=8)))
    assert epoch(source, 1, 2, seed=3).indices != epoch(source, 1, 2, seed=8).indices


def test_views_of_one_picture_differ() -> None:
    (batch,) = read_batches(Pictures(length=1), TRANSFORM, seed=0, position_ranges=[range(12)], workers=0, views=12)
    assert len({(record.crop_top_px, record.crop_left_px, record.flip) for record in batch.records}) > 6


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_by_sample_gives_the_same_views(workers: int) -> None:
    source = Pictures(bad=(4, 20))
    for view in (0, 1):
        wanted = epoch(source, view, 2)
        (found,) = read_fixed_views(source, TRANSFORM, view, [range(23)], workers)
        assert found.positions == tuple(range(23)) and found.captions is None
        for row, position in enumerate(wanted.positions):
            index = sample_at(3, position, 23)
            assert found.indices[index] == wanted.indices[row]
            assert found.records[index] == wanted.records[row]
            assert torch.equal(found.pixels[index], wanted.pixels[row])
        assert {bad.id for bad in found.bad} == {bad.id for bad in wanted.bad} >= {"pictures/4", "pictures/20"}


def test_a_replacement_is_the_same_whenever_the_view_comes() -> None:
    source = Pictures(bad=(4,))
    place = next(position for position in range(23) if sample_at(3, position, 23) == 4)
    later = next(position for position in range(46, 69) if sample_at(3, position, 23) == 4)
    first, again = (read_view(source, TRANSFORM, 3, position, views=2).view for position in (place, later))
    assert first.index == again.index != 4
    assert torch.equal(first.pixels, again.pixels)


def test_views_that_would_all_be_the_same_are_refused() -> None:
    content = {"source": {"kind": "shapes"}, "transform": {"size_px": 32, "crop": {"kind": "center"}}, "views": 2}
    with pytest.raises(ConfigError, match=r"views=2 would all be the same.*needed: views=1 or null"):
        validate(DataConfig, content, source="test")
    assert validate(DataConfig, {**content, "views": 1}, source="test").views == 1
    content["transform"] = {"size_px": 32, "crop": {"kind": "center"}, "flip": 0.5}
    assert validate(DataConfig, content, source="test").views == 2
