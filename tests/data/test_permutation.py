"""Permutations that are computed: each number once, backwards the way they came, in one call the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from open_ldm.data.permutation import Permutation


@pytest.mark.parametrize("length", [*range(1, 20), 63, 64, 65, 1000, 8192])
def test_each_number_comes_once_and_can_be_traced_back(length: int) -> None:
    permutation = Permutation.keyed(length, "a name")
    values = [permutation.at(index) for index in range(length)]
    assert sorted(values) == list(range(length))
    assert [permutation.inverse(value) for value in values] == list(range(length))
    assert permutation.all().tolist() == values


def test_another_name_is_another_permutation() -> None:
    assert len({tuple(Permutation.keyed(30, f"name {number}").all().tolist()) for number in range(40)}) == 40


def test_huge_lengths_need_no_memory() -> None:
    permutation = Permutation.keyed(10**12, "long")
    assert len({permutation.at(index) for index in range(500)}) == 500
    assert all(permutation.inverse(permutation.at(index)) == index for index in range(50))


@pytest.mark.parametrize("length", [5, 12, 100])
def test_every_number_is_equally_likely_at_every_place(length: int) -> None:
    drawn = np.stack([Permutation.keyed(length, f"draw {number}").all() for number in range(200 * length)])
    for place in (0, length // 2, length - 1):
        counts = np.bincount(drawn[:, place], minlength=length)
        assert ((counts - 200) ** 2 / 200).sum() < (length - 1) + 6 * np.sqrt(2 * (length - 1))
