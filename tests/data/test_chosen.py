"""Chosen numbers are the same whichever of them are kept."""

from __future__ import annotations

import numpy as np
import pytest

from open_ldm.data.chosen import Chosen


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.51, 0.95, 1.0])
def test_every_index_gives_its_number(share: float) -> None:
    numbers = np.flatnonzero(np.random.default_rng(0).random(500) < share)
    chosen = Chosen(numbers, 500)
    assert len(chosen) == len(numbers)
    assert [chosen.at(index) for index in range(len(numbers))] == numbers.tolist()
    assert chosen[np.arange(len(numbers))[::-1]].tolist() == numbers[::-1].tolist()
    sizes = np.array([0, 100, 1, 0, 399, 0])
    assert chosen.counts(sizes).tolist() == np.histogram(numbers, [0, 0, 100, 101, 101, 500, 500])[0].tolist()
    for index in (-1, len(numbers)):
        with pytest.raises(IndexError):
            chosen.at(index)
