"""Sliced Wasserstein distance, against scipy along single lines and against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, weights
from open_ldm.evaluation.metrics import SlicedWassersteinConfig
from open_ldm.evaluation.metrics.sliced_wasserstein import directions, squared_distances, weighted_distances
from tests.evaluation.sets import normal_statistics, statistics_of
from tests.helpers import randn

QUICK = BootstrapConfig(replicates=20)


def rows(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Sorted numbers [3, count]."""
    return (randn(3, count, seed=seed).double() * scale + shift).sort(dim=1).values


@pytest.mark.parametrize(("n", "m"), [(12, 12), (7, 12), (30, 11), (1, 5)])
def test_it_is_exact_for_any_two_numbers_of_pictures(n: int, m: int) -> None:
    """Against the quantile functions on a grid of n m points, which steps on none of them."""
    x, y = rows(n, 1), rows(m, 2, 2.0, 0.5)
    i, j = np.arange(n * m) // m, np.arange(n * m) // n
    expected = np.square(x.numpy()[:, i] - y.numpy()[:, j]).mean(axis=1)
    assert squared_distances(x, y).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (7, 4)])
def test_no_plan_moves_the_pictures_at_a_lower_cost(n: int, m: int) -> None:
    """Against the linear programme of optimal transport with squared cost, which knows no sorting."""
    x, y = rows(n, 3), rows(m, 4, 1.5)
    leaves = np.kron(np.eye(n), np.ones(m))
    arrives = np.kron(np.ones(n), np.eye(m))
    shares = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    for one, other, found in zip(x.numpy(), y.numpy(), squared_distances(x, y), strict=True):
        cost = np.square(one[:, None] - other[None, :]).ravel()
        plan = optimize.linprog(cost, A_eq=np.concatenate([leaves, arrives]), b_eq=shares)
        assert float(found) == pytest.approx(plan.fun, rel=1e-6)


def test_a_shift_along_a_line_is_as_far_as_scipy_says() -> None:
    """scipy knows W_1 alone, which equals W_2 for a shift and is never above it."""
    x, y = rows(40, 3), rows(25, 4, 1.5)
    for one, other, shifted, squared in zip(
        x.numpy(), y.numpy(), squared_distances(x, x + 3), squared_distances(x, y), strict=True
    ):
        assert math.sqrt(shifted) == pytest.approx(stats.wasserstein_distance(one, one + 3), rel=1e-9)
        assert math.sqrt(squared) >= stats.wasserstein_distance(one, other)


def test_a_set_is_at_no_distance_from_itself_or_from_its_double() -> None:
    x = rows(9, 5)
    assert squared_distances(x, x).tolist() == [0, 0, 0]
    assert squared_distances(x, x.repeat_interleave(2, dim=1)).abs().max() < 1e-25


@pytest.mark.parametrize(("dim", "count"), [(6, 4), (6, 15)])
def test_directions_are_unit_vectors_and_orthogonal_in_blocks(dim: int, count: int) -> None:
    found = directions(dim, count, seed=1)
    assert found.shape == (dim, count)
    for block in found.split(dim, dim=1):
        torch.testing.assert_close(block.T @ block, torch.eye(block.shape[1], dtype=torch.float64))
    assert not torch.equal(found, directions(dim, count, seed=2)) and torch.equal(found, directions(dim, count, seed=1))


def test_directions_have_no_preferred_one() -> None:
    found = directions(3, 6000, seed=0)
    assert found.mean(dim=1).abs().max() < 4 / math.sqrt(6000 * 3)
    torch.testing.assert_close(found @ found.T / 6000, torch.eye(3, dtype=torch.float64) / 3, atol=1e-9, rtol=0)


def test_a_shift_counts_its_squared_length() -> None:
    """Along any full set of orthogonal directions, exactly: D mean (u . shift)^2 = |shift|^2."""
    x = randn(50, 5, seed=1)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    config = SlicedWassersteinConfig(directions=10)
    (found,) = config.measure(statistics_of(x + shift), statistics_of(x), QUICK)
    assert found.value == pytest.approx(float(shift.square().sum()), rel=1e-5) and found.name == "sliced_wasserstein"
    assert found.low < found.value < found.high and found.count == 50


def test_normal_sets_are_at_the_distance_of_normal_distributions() -> None:
    """N(0, 1) against N(1, 2^2) in D dimensions: W_2^2 along u is (u . 1)^2 + (2 - 1)^2, so D times the mean is 2 D."""
    samples, reference = normal_statistics(4000, 4, seed=1, shift=1, scale=2), normal_statistics(5000, 4, seed=2)
    (found,) = SlicedWassersteinConfig(directions=64).measure(samples, reference, QUICK)
    assert found.low < 8 < found.high and found.value == pytest.approx(8, rel=0.05) and not found.warnings


def test_replicates_are_what_drawing_the_pictures_gives() -> None:
    """Against drawing the rows themselves, projecting and sorting them again."""
    x, y, along = randn(15, 4, seed=1).double(), randn(11, 4, seed=2).double(), directions(4, 3, 0)
    sorted_y = (y @ along).T.sort(dim=1).values
    counts = weights(QUICK, 15, "test")
    found = weighted_distances(x @ along, sorted_y, counts)
    for row, each in zip(found, counts, strict=True):
        drawn = x[torch.repeat_interleave(torch.arange(15), each.long())]
        torch.testing.assert_close(row, squared_distances((drawn @ along).T.sort(dim=1).values, sorted_y))


def test_the_interval_holds_the_spread_over_other_pictures() -> None:
    reference = normal_statistics(2000, 3, seed=100)
    found = [
        SlicedWassersteinConfig(directions=6).measure(normal_statistics(300, 3, seed, shift=0.7), reference, QUICK)[0]
        for seed in range(12)
    ]
    spread = float(torch.tensor([one.value for one in found]).std())
    width = float(torch.tensor([(one.high - one.low) / (2 * 1.96) for one in found]).mean())
    assert 0.5 < width / spread < 2  # the spread of twelve has an error of a fifth


def test_too_few_pictures_are_refused_and_a_bias_is_told() -> None:
    with pytest.raises(DataError, match="at least 10 pictures"):
        SlicedWassersteinConfig().measure(normal_statistics(5, 3, 1), normal_statistics(40, 3, 2), QUICK)
    (alike,) = SlicedWassersteinConfig(directions=9).measure(normal_statistics(40, 3, 1), normal_statistics(900, 3, 2), QUICK)
    assert "too high: compare equal numbers of pictures" in alike.warnings[0]


def test_what_is_told_of_a_bias_can_be_true() -> None:
    """Nothing that is 0 is too high, and a value is no more too high than it is."""
    same = normal_statistics(40, 3, 1)
    (alike,) = SlicedWassersteinConfig(directions=9).measure(same, same, QUICK)
    assert alike.value == 0 and not alike.warnings
    nearly = replace(same, rows=replace(same.rows, vectors=same.rows.vectors * (1 + 1e-4)))
    (close,) = SlicedWassersteinConfig(directions=9).measure(nearly, same, QUICK)
    assert close.value > 0 and "no more than its bias" in close.warnings[0]
