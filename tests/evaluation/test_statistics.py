from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bank import Bank, Rows
from open_ldm.evaluation.features.base import ExtractorId, Features
from open_ldm.evaluation.pictures import Pictures
from open_ldm.evaluation.statistics import Statistics, collect, in_portions, merged_statistics, nothing_of
from tests.evaluation.sets import batches, images, small_extractor
from tests.helpers import randn

PICTURES = images(22)
ORDER = torch.randperm(22, generator=torch.Generator().manual_seed(5)).tolist()


def assert_alike(one: Statistics, other: Statistics) -> None:
    assert one.pictures == other.pictures
    assert one.extractor == other.extractor
    torch.testing.assert_close(one.moments.mean, other.moments.mean, rtol=1e-5, atol=1e-6)  # the network runs in float32
    torch.testing.assert_close(one.moments.scatter, other.moments.scatter, rtol=1e-4, atol=1e-6)
    assert one.rows.keys.equal(other.rows.keys)
    assert one.rows.numbers.equal(other.rows.numbers)
    torch.testing.assert_close(one.rows.vectors, other.rows.vectors, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.rows.probabilities, other.rows.probabilities, rtol=1e-4, atol=1e-6)


def test_batches_that_wait_for_one_another_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = collect(batches(PICTURES, 22), [small_extractor()])
    monkeypatch.setattr("open_ldm.evaluation.statistics._TOGETHER", 8)
    (other,) = collect(batches(PICTURES, 5), [small_extractor()])
    assert_alike(one, other)


def test_order_and_batches_change_nothing() -> None:
    (one,) = collect(batches(PICTURES, 22), [small_extractor()])
    (other,) = collect(batches(PICTURES, 5, ORDER), [small_extractor()])
    assert_alike(one, other)
    assert one.moments.count == one.pictures.count == len(one.rows) == 22
    assert sorted(one.rows.numbers.tolist()) == list(range(22))


@pytest.mark.parametrize("capacity", [50, 9])
def test_processes_change_nothing(capacity: int) -> None:
    extractors = [small_extractor()]
    (one,) = collect(batches(PICTURES, 4), extractors, capacity=capacity)
    (first,) = collect(batches(PICTURES, 3, ORDER[:8]), extractors, capacity=capacity)
    (second,) = collect(batches(PICTURES, 7, ORDER[8:]), extractors, capacity=capacity)
    idle = nothing_of(extractors[0])
    parts = [(part, in_portions(part.rows)) for part in (first, idle, second)]
    all_of_them = merged_statistics(parts, capacity)
    assert_alike(one, all_of_them)
    assert len(all_of_them.rows) == min(capacity, 22)


def test_one_pass_feeds_all_extractors() -> None:
    extractors = [small_extractor(), small_extractor(seed=1, dim=5)]
    both = collect(iter(list(batches(PICTURES, 6))), extractors)
    for extractor, found in zip(extractors, both, strict=True):
        (alone,) = collect(batches(PICTURES, 6), [extractor])
        assert_alike(found, alone)
    assert [found.dim for found in both] == [6, 5]
    assert both[0].extractor != both[1].extractor


def test_vectors_are_the_extractors_and_rounding_comes_first() -> None:
    extractor = small_extractor()
    (found,) = collect(batches(PICTURES, 22), [extractor])
    order = torch.argsort(found.rows.numbers)
    torch.testing.assert_close(found.rows.vectors[order], extractor.extract(PICTURES).vectors)
    (nudged,) = collect(batches(PICTURES + 0.4 / 127.5 * torch.sign(randn(*PICTURES.shape)), 22), [extractor])
    assert_alike(found, nudged)


@dataclass
class Broken:
    """Gives NaN for one picture."""

    id = ExtractorId("broken", "0", "none")
    dim = 2

    def extract(self, images: Tensor) -> Features:
        vectors = images.flatten(1)[:, :2].clone()
        vectors[images[:, 0, 0, 0] > 0.99] = torch.nan
        return Features(vectors)


def test_bad_input_is_refused_in_one_line() -> None:
    extractor = small_extractor()
    with pytest.raises(DataError, match="no pictures to measure; needed: at least one"):
        collect([], [extractor])
    with pytest.raises(DataError, match="no pictures"):
        collect([Pictures(PICTURES[:0], ())], [extractor])
    wrong = PICTURES.clone()
    wrong[2, 1, 3, 3] = torch.nan
    with pytest.raises(DataError, match="picture 2 of a batch holds NaN"):
        collect(batches(wrong, 22), [extractor])
    with pytest.raises(DataError, match=r"uint8 \[4, 3, 16, 16\]; needed: images float"):
        collect([Pictures(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), (0, 1, 2, 3))], [extractor])
    with pytest.raises(DataError, match="different sizes"):
        collect([*batches(PICTURES, 22), *batches(images(2, 8), 2)], [extractor])
    white = PICTURES.clone().clamp(max=0.9)
    white[17] = 1
    with pytest.raises(DataError, match=r"features of picture 17 by broken.*weights file"):
        collect(batches(white, 5, ORDER), [Broken()])


def rows(keys: list[int]) -> Rows:
    numbers = torch.tensor(keys)
    return Rows(numbers % 1000, numbers, numbers.unsqueeze(1).float())


def test_a_bank_keeps_the_lowest_keys_whatever_comes_first() -> None:
    keys = torch.randperm(100, generator=torch.Generator().manual_seed(1)).tolist()
    bank = Bank(capacity=10)
    for start in range(0, 100, 7):
        bank.add(rows(keys[start : start + 7]))
    assert bank.rows().keys.tolist() == list(range(10))
    assert bank.rows().vectors.squeeze(1).tolist() == list(range(10))


def test_equal_pictures_stand_in_the_order_of_their_numbers() -> None:
    one, other = Bank(capacity=3), Bank(capacity=3)
    for number in (1005, 5, 2005, 7):
        one.add(rows([number]))
    for number in (7, 2005, 1005, 5):
        other.add(rows([number]))
    assert one.rows().numbers.tolist() == other.rows().numbers.tolist() == [5, 1005, 2005]


def test_pixels_and_images_are_the_same_set() -> None:
    pixels = (torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    (one,) = collect([Pictures(to_images(pixels), (0, 1, 2))], [small_extractor()])
    (same,) = collect([Pictures(to_images(pixels) * 1.0001, (0, 1, 2))], [small_extractor()])
    assert one.pictures.hash == same.pictures.hash
