from __future__ import annotations

import pytest
import scipy.stats
import torch

from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate, estimate_mean, estimate_share, weights
from open_ldm.evaluation.metrics.fid import Gaussian, Root, weighted_gaussian
from tests.helpers import randn


def test_weights_are_draws_with_replacement_and_a_function_of_the_seed() -> None:
    found = weights(BootstrapConfig(replicates=400), 30, "x")
    assert (found.sum(dim=1) == 30).all()
    assert found.mean() == 1
    assert float(found.var(dim=0).mean()) == pytest.approx(1 - 1 / 30, abs=0.03)  # multinomial
    assert found.equal(weights(BootstrapConfig(replicates=400), 30, "x"))
    assert not found.equal(weights(BootstrapConfig(replicates=400), 30, "y"))
    assert not found.equal(weights(BootstrapConfig(replicates=400, seed=1), 30, "x"))


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_intervals_of_a_mean_cover_it_as_often_as_they_say(level: float) -> None:
    config = BootstrapConfig(replicates=100, level=level)
    trials = 300
    held = 0
    for trial in range(trials):
        found = estimate_mean("mean", 2 + 3 * randn(60, seed=trial), config)
        held += found.low <= 2 <= found.high
    assert held / trials == pytest.approx(level, abs=3 * (level * (1 - level) / trials) ** 0.5 + 0.02)


def test_intervals_of_a_frechet_distance_cover_its_mean() -> None:
    """Against the mean of many repetitions at the same number of pictures, bias included: that is what they promise."""
    wanted = Root(Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)))
    drawn = weights(BootstrapConfig(replicates=30), 100, "fid")
    values, spreads = [], []
    for trial in range(80):
        x = randn(100, 3, seed=trial) * 1.3 + 0.4
        centre = x.double().mean(dim=0)
        values.append(wanted.distance(Gaussian(centre, torch.cov(x.double().T))))
        spreads.append(float(torch.tensor([wanted.distance(weighted_gaussian(x, row, centre)) for row in drawn]).std()))
    off = (torch.tensor(values) - torch.tensor(values).mean()).abs() / torch.tensor(spreads)
    assert 0.87 < float((off < 1.96).double().mean()) <= 1
    assert 0.5 < float((off < 1).double().mean()) < 0.9


def test_an_interval_lies_around_its_value_and_scales() -> None:
    values = randn(50, seed=0)
    one, hundred = estimate_mean("m", values, BootstrapConfig()), estimate_mean("m", values, BootstrapConfig(), scale=100)
    assert one.low < one.value < one.high
    assert hundred.high - hundred.low == pytest.approx(100 * (one.high - one.low))
    assert one.count == 50


@pytest.mark.parametrize(("hits", "count"), [(0, 40), (1, 40), (17, 40), (40, 40)])
def test_the_interval_of_a_share_is_wilsons(hits: int, count: int) -> None:
    found = estimate_share("share", torch.arange(count) < hits, BootstrapConfig())
    peer = scipy.stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert 0 <= found.low <= found.value == hits / count <= found.high <= 1


def test_an_interval_ends_where_its_metric_does() -> None:
    spread = torch.tensor([0.0, 4.0], dtype=torch.float64)
    assert estimate("fid", 0.5, spread, BootstrapConfig(), 10, least=0).low == 0
    assert estimate("kid", 0.5, spread, BootstrapConfig(), 10).low < 0
