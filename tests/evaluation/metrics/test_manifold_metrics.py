from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.metrics import manifold
from open_ldm.evaluation.metrics.density_coverage import DensityCoverageConfig
from open_ldm.evaluation.metrics.precision_recall import PrecisionRecallConfig
from tests.evaluation.sets import normal_statistics, statistics_of
from tests.helpers import randn

QUICK = BootstrapConfig(replicates=20)
X, Y = randn(30, 3, seed=1) * 1.5 - 0.8, randn(40, 3, seed=2) * 1.4 + 0.5


def apart(a: Tensor, b: Tensor) -> float:
    return math.dist(a.tolist(), b.tolist())


def plain_radii(x: Tensor, k: int) -> list[float]:
    return [sorted(apart(a, b) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]


def plain_share(x: Tensor, centres: Tensor, k: int) -> float:
    radii = plain_radii(centres, k)
    return sum(any(apart(a, c) <= r for c, r in zip(centres, radii, strict=True)) for a in x) / len(x)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_plain_ones(k: int) -> None:
    precision, recall = PrecisionRecallConfig(neighbours=k).measure(statistics_of(X), statistics_of(Y), QUICK)
    assert (precision.name, recall.name) == ("precision", "recall")
    assert precision.value == pytest.approx(plain_share(X, Y, k))
    assert recall.value == pytest.approx(plain_share(Y, X, k))
    assert 0 < precision.value < 1
    assert (precision.count, recall.count) == (30, 40)


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_are_the_plain_ones(k: int) -> None:
    density, coverage = DensityCoverageConfig(neighbours=k).measure(statistics_of(X), statistics_of(Y), QUICK)
    radii = plain_radii(Y, k)
    held = [[apart(x, y) <= r for y, r in zip(Y, radii, strict=True)] for x in X]
    assert density.value == pytest.approx(sum(map(sum, held)) / (k * len(X)))
    assert coverage.value == pytest.approx(sum(any(row[j] for row in held) for j in range(len(Y))) / len(Y))
    assert 0 < coverage.value < 1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = PrecisionRecallConfig().measure(statistics_of(X), statistics_of(Y), QUICK)
    monkeypatch.setattr(manifold, "_BLOCK", 7)
    assert PrecisionRecallConfig().measure(statistics_of(X), statistics_of(Y), QUICK) == one


def test_far_from_the_origin_distances_keep_their_digits() -> None:
    """Squares of the coordinates are 1e14 here: their differences alone would leave errors near 1e-2."""
    x, y = X.double() + 1e7, Y.double() + 1e7
    found = torch.cat([block for _, block in manifold.distances(x, y)])
    torch.testing.assert_close(found, (x[:, None] - y[None]).norm(dim=2), rtol=1e-8, atol=0)


def test_a_collapsed_model_is_precise_and_reaches_little() -> None:
    collapsed = Y[:1] + 0.01 * randn(30, 3, seed=3)
    precision, recall = PrecisionRecallConfig().measure(statistics_of(collapsed), statistics_of(Y), QUICK)
    assert precision.value == 1
    assert recall.value < 0.1
    _, coverage = DensityCoverageConfig().measure(statistics_of(collapsed), statistics_of(Y), QUICK)
    assert coverage.value < 0.5


def test_one_outlier_inflates_precision_but_not_density() -> None:
    """Naeem et al. 2020, their figure 1: samples spread around an outlier of the data."""
    wide = torch.cat([Y, torch.full((1, 3), 30.0)])
    samples = 30 + 5 * randn(30, 3, seed=4)
    precision, _ = PrecisionRecallConfig().measure(statistics_of(samples), statistics_of(wide), QUICK)
    density, _ = DensityCoverageConfig().measure(statistics_of(samples), statistics_of(wide), QUICK)
    assert precision.value > 0.9
    assert density.value < 0.4


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="the reference data hold only 3 pictures; needed: at least 4"):
        PrecisionRecallConfig().measure(normal_statistics(20, 3, 1), normal_statistics(3, 3, 2), QUICK)
