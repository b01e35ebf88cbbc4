from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, weights
from open_ldm.evaluation.metrics.kid import KIDConfig, weighted_kernel_distance
from tests.evaluation.sets import normal_statistics, statistics_of
from tests.helpers import randn

QUICK = BootstrapConfig(replicates=20)


def plain(x: Tensor, y: Tensor) -> float:
    """The unbiased estimator, pair by pair."""

    def k(a: Tensor, b: Tensor) -> float:
        return float((a.double() @ b.double() / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    own = sum(k(x[i], x[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    others = sum(k(y[i], y[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    return own + others - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_value_is_the_plain_sum_over_pairs() -> None:
    x, y = randn(12, 5, seed=1), randn(12, 5, seed=2) + 0.3
    (found,) = KIDConfig().measure(statistics_of(x), statistics_of(y), QUICK)
    assert found.value == pytest.approx(plain(x, y), rel=1e-10)
    assert found.count == 12


def test_unequal_numbers_use_subsets_of_the_smaller() -> None:
    x, y = randn(12, 5, seed=1), randn(40, 5, seed=2)
    (found,) = KIDConfig(subsets=400).measure(statistics_of(x), statistics_of(y), QUICK)
    assert found.value == pytest.approx(plain(x, y), abs=0.05)  # the mean over all subsets is the estimate of the whole


def test_subsets_average_to_the_whole_and_are_drawn_by_seed() -> None:
    x, y = statistics_of(randn(40, 3, seed=1)), statistics_of(randn(40, 3, seed=2) + 1)
    whole = KIDConfig().measure(x, y, QUICK)[0]
    parts = KIDConfig(subset_size=20, subsets=300).measure(x, y, QUICK)[0]
    assert parts.value == pytest.approx(whole.value, rel=0.1)
    assert parts.value != whole.value
    assert parts == KIDConfig(subset_size=20, subsets=300).measure(x, y, QUICK)[0]
    assert parts.value != KIDConfig(subset_size=20, subsets=300, seed=1).measure(x, y, QUICK)[0].value
    assert parts.high - parts.low == pytest.approx(whole.high - whole.low, rel=0.5)


def test_it_is_unbiased_where_sets_are_alike() -> None:
    values = [
        float(weighted_kernel_distance(randn(15, 4, seed=2 * i).double(), randn(15, 4, seed=2 * i + 1).double(), ones(15)))
        for i in range(300)
    ]
    found = torch.tensor(values)
    assert abs(float(found.mean())) < 3 * float(found.std()) / 300**0.5
    assert float(found.min()) < 0


def ones(count: int) -> Tensor:
    return torch.ones(1, count, dtype=torch.float64)


def test_replicates_skip_pairs_of_a_picture_with_itself() -> None:
    """A repeated picture adds no pair with its own copy, so replicates average to the value instead of lying above it."""
    x, y = randn(20, 4, seed=1).double(), randn(20, 4, seed=2).double()
    drawn = weights(BootstrapConfig(replicates=600), 20, "kid")
    replicates = weighted_kernel_distance(x, y, drawn)
    value = float(weighted_kernel_distance(x, y, ones(20)))
    assert abs(float(replicates.mean()) - value) < 4 * float(replicates.std()) / 600**0.5 + 0.01

    row = drawn[0]
    within = (x @ x.T / 4 + 1) ** 3
    pairs = [(i, j) for i, j in itertools.product(range(20), repeat=2) if i != j]
    own = sum(float(row[i] * row[j] * within[i, j]) for i, j in pairs) / sum(float(row[i] * row[j]) for i, j in pairs)
    others = (y @ y.T / 4 + 1) ** 3
    across = float((row @ ((x @ y.T / 4 + 1) ** 3)).sum()) / (20 * 20)
    rest = float((others.sum() - others.trace()) / (20 * 19))
    assert float(replicates[0]) == pytest.approx(own + rest - 2 * across, rel=1e-10)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(DataError, match=r"the samples hold only 9 pictures; needed: at least 10"):
        KIDConfig().measure(normal_statistics(9, 4, 1), normal_statistics(20, 4, 2), QUICK)


def test_a_replicate_that_drew_none_of_a_small_subset_leaves_the_interval_finite() -> None:
    (found,) = KIDConfig(subset_size=10).measure(
        normal_statistics(300, 4, seed=1), normal_statistics(300, 4, seed=2), BootstrapConfig(replicates=200)
    )
    assert found.low < found.value < found.high
