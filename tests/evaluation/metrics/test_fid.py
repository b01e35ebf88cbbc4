from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.metrics.fid import FIDConfig, Gaussian, Root, frechet_distance, weighted_gaussian
from tests.evaluation.sets import normal_statistics, statistics_of
from tests.helpers import randn

QUICK = BootstrapConfig(replicates=20)


def gaussian(dim: int, seed: int) -> Gaussian:
    """A random mean and a full covariance."""
    half = randn(dim, dim + 3, seed=seed).double()
    return Gaussian(randn(dim, seed=seed + 100).double(), half @ half.T / dim)


def diagonal(mean: list[float], deviations: list[float]) -> Gaussian:
    return Gaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(deviations, dtype=torch.float64).square().diag())


def test_closed_forms() -> None:
    one, other = diagonal([0, 1, 2], [1, 2, 3]), diagonal([1, 1, 0], [2, 0.5, 0])
    assert frechet_distance(one, other) == pytest.approx(
        1 + 0 + 4 + 1 + 1.5**2 + 9, rel=1e-12
    )  # sum of (m - m')^2 + (s - s')^2
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


def turned(g: Gaussian, seed: int) -> Gaussian:
    """In other axes, with the rounding of the products that lead there."""
    rotation, _ = torch.linalg.qr(randn(len(g.mean), len(g.mean), seed=seed).double())
    return Gaussian(rotation @ g.mean, rotation @ g.covariance @ rotation.T)


@pytest.mark.parametrize("seed", range(10))
def test_a_rotation_changes_nothing(seed: int) -> None:
    """Also where a covariance is singular. Largest of 2,000 rotations: 1.0e-15.

    A stable eigh on any machine is off by a small multiple of D eps |S| = 6e-15 in the eigenvalues, hence in the roots of those
    above 0.25, and what is left of the one that is 0 is below the floor.
    """
    one, other = diagonal([0, 1, 2], [1, 2, 3]), diagonal([1, 1, 0], [2, 0.5, 0])
    pair = turned(one, seed), turned(other, seed)
    assert frechet_distance(*pair) == pytest.approx(17.25, rel=1e-12)
    assert frechet_distance(*reversed(pair)) == pytest.approx(17.25, rel=1e-12)


def test_small_variances_are_not_lost_beside_large_ones() -> None:
    """S_2 = 2 S_1 with variances from 1 down to 1e-8: tr (S_1 + S_2 - 2 sqrt(2) S_1) = (sqrt(2) - 1)^2 tr S_1."""
    variances = torch.logspace(0, -8, 24, dtype=torch.float64)
    one, other = (turned(Gaussian(torch.zeros(24).double(), (scale * variances).diag()), 3) for scale in (1, 2))
    wanted = (2**0.5 - 1) ** 2 * float(variances.sum())
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-12)
    assert Root(one).rough_distance(other) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("dim", [1, 5, 40])
def test_matrix_root_is_scipys(dim: int) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    one, other = gaussian(dim, 1), gaussian(dim, 2)
    root = linalg.sqrtm(one.covariance.numpy() @ other.covariance.numpy())
    spread = one.covariance.trace() + other.covariance.trace() - 2 * np.trace(root).real
    wanted = float((one.mean - other.mean).square().sum() + spread)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(wanted, rel=1e-9)


def test_a_singular_covariance_needs_no_help() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x = randn(4, 6, seed=3).double()
    flat, full = Gaussian(x.mean(dim=0), torch.cov(x.T)), gaussian(6, 4)
    assert float(torch.linalg.eigvalsh(flat.covariance).abs().min()) < 1e-12
    root = np.trace(linalg.sqrtm(full.covariance.numpy() @ flat.covariance.numpy())).real
    wanted = float((flat.mean - full.mean).square().sum() + flat.covariance.trace() + full.covariance.trace()) - 2 * root
    assert frechet_distance(flat, full) == pytest.approx(wanted, rel=1e-6)


def test_measured_value_is_that_of_the_sets() -> None:
    x, y = randn(80, 4, seed=1), randn(90, 4, seed=2) * 1.5 + 1
    (found,) = FIDConfig().measure(statistics_of(x), statistics_of(y), QUICK)
    wanted = frechet_distance(*(Gaussian(v.double().mean(dim=0), torch.cov(v.double().T)) for v in (x, y)))
    assert found.value == pytest.approx(wanted, rel=1e-10)
    assert found.low < found.value < found.high
    assert found.count == 80


def test_weighted_moments_are_those_of_repeated_rows() -> None:
    x = randn(30, 4, seed=5) + 7
    drawn = torch.bincount(torch.randint(30, (30,), generator=torch.Generator().manual_seed(1)), minlength=30).double()
    repeated = x.double().repeat_interleave(drawn.long(), dim=0)
    found = weighted_gaussian(x, drawn, x.double().mean(dim=0))
    torch.testing.assert_close(found.mean, repeated.mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.covariance, torch.cov(repeated.T), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("small", ["samples", "reference"])
def test_too_few_pictures_are_refused_and_kid_offered(small: str) -> None:
    few, many = normal_statistics(6, 6, 1), normal_statistics(70, 6, 2)
    pair = (few, many) if small == "samples" else (many, few)
    with pytest.raises(DataError, match=rf"6 pictures in the {small} .* 6 dimensions.*use kid"):
        FIDConfig().measure(*pair, QUICK)


def test_few_pictures_come_with_a_warning() -> None:
    (found,) = FIDConfig().measure(normal_statistics(20, 4, 1), normal_statistics(60, 4, 2), QUICK)
    assert len(found.warnings) == 1
    assert "20 pictures in the samples" in found.warnings[0]
    (found,) = FIDConfig().measure(normal_statistics(40, 4, 1), normal_statistics(60, 4, 2), QUICK)
    assert found.warnings == ()


def test_sets_seen_differently_are_not_compared() -> None:
    one = normal_statistics(40, 4, 1)
    other = normal_statistics(40, 4, 2)
    other.pictures.size_px = (16, 16)
    with pytest.raises(ConfigError, match="samples have 8x8 px, the reference has 16x16 px"):
        FIDConfig().measure(one, other, QUICK)


def draws(shift: float) -> Tensor:
    return randn(60, 4, seed=9) + shift


def test_the_distance_grows_with_the_shift() -> None:
    wanted = statistics_of(randn(60, 4, seed=8))
    values = [FIDConfig().measure(statistics_of(draws(shift)), wanted, QUICK)[0].value for shift in (0, 0.5, 1, 2)]
    assert values == sorted(values)
