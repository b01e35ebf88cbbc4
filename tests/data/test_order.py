from __future__ import annotations

import numpy as np
import pytest

from open_ldm.data.order import first_indices, reserve_at, sample_at


@pytest.mark.parametrize("length", [*range(1, 40), 63, 64, 65, 255, 256, 257, 1000, 4097])
def test_each_epoch_visits_every_sample_once(length: int) -> None:
    for epoch in range(3):
        positions = range(epoch * length, (epoch + 1) * length)
        assert sorted(sample_at(7, position, length) for position in positions) == list(range(length))


def test_the_first_of_the_order_are_each_named_once() -> None:
    assert first_indices(7, 5, 40) == [sample_at(7, position, 40) for position in (0, 1, 2, 3, 4)]
    assert sorted(first_indices(7, 100, 40)) == list(range(40))


def test_epochs_and_seeds_give_different_orders() -> None:
    orders = {tuple(sample_at(seed, epoch * 50 + i, 50) for i in range(50)) for seed in range(4) for epoch in range(8)}
    assert len(orders) == 32


def test_order_is_a_function_of_its_arguments_alone() -> None:
    forwards = [sample_at(1, position, 1000) for position in range(3000)]
    backwards = [sample_at(1, position, 1000) for position in reversed(range(3000))]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("length", [5, 12, 100])
def test_every_sample_is_equally_likely_at_every_place(length: int) -> None:
    epochs = 200 * length
    for place in (0, length // 2, length - 1):
        counts = np.bincount([sample_at(3, e * length + place, length) for e in range(epochs)], minlength=length)
        chi_squared = ((counts - 200) ** 2 / 200).sum()
        # Mean length - 1, variance 2 (length - 1): six standard deviations.
        assert chi_squared < (length - 1) + 6 * np.sqrt(2 * (length - 1))


def test_neighbours_are_not_correlated() -> None:
    order = np.array([sample_at(0, position, 10_000) for position in range(10_000)])
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05


def test_huge_data_sets_need_no_memory() -> None:
    length = 10**12
    assert len({sample_at(0, position, length) for position in range(1000)}) == 1000


def test_reserves_differ_by_attempt_and_position() -> None:
    drawn = [reserve_at(0, position, attempt, 10**9) for position in range(20) for attempt in range(20)]
    assert len(set(drawn)) == 400
    assert all(0 <= reserve_at(0, position, 0, 3) < 3 for position in range(50))


@pytest.mark.parametrize(("position", "length"), [(-1, 5), (0, 0)])
def test_impossible_positions_are_refused(position: int, length: int) -> None:
    with pytest.raises(ValueError, match="no sample"):
        sample_at(0, position, length)
