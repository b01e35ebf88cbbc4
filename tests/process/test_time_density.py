from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from open_ldm.core import seeds
from open_ldm.process.time_density import LogitNormalTimes, TimeDensityConfig, UniformTimes, times

EVEN = (torch.arange(2**20) + 0.5) / 2**20
EXTREMES = torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-24])


@pytest.mark.parametrize(("steps", "draws"), [(1000, 250_000), (40, 2**20), (4, 2**20)])
def test_uniform_times_hit_every_step_equally(steps: int, draws: int) -> None:
    u = (torch.arange(draws, dtype=torch.float64) / draws).float()
    t = times(UniformTimes(), u, steps)
    index = (t.double() * steps).round()
    torch.testing.assert_close(t, (index / steps).float(), rtol=0, atol=0)
    counts = torch.bincount(index.long(), minlength=steps + 1)
    assert counts[0] == 0
    # a draw at the edge of a cell may be rounded across it when it becomes float32
    assert (counts[1:] - draws / steps).abs().max() <= 1


def test_uniform_times_are_the_draws() -> None:
    u = seeds.uniform(3, "time", range(1000))
    torch.testing.assert_close(times(UniformTimes(), u), u, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.6), (-1.2, 1.2)])
def test_logit_normal_quantiles(mean: float, std: float) -> None:
    t = times(LogitNormalTimes(mean=mean, std=std), EVEN)
    for q in (0.05, 0.25, 0.5, 0.8, 0.99):
        share = NormalDist(mean, std).cdf(float(torch.logit(torch.tensor(q, dtype=torch.float64))))
        assert float((t <= q).double().mean()) == pytest.approx(share, abs=1e-5)
    snapped = times(LogitNormalTimes(mean=mean, std=std), EVEN, 10)
    assert float((snapped < 0.55).double().mean()) == pytest.approx(float((t <= 0.5).double().mean()), abs=1e-5)


@pytest.mark.parametrize("config", [UniformTimes(), LogitNormalTimes(), LogitNormalTimes(mean=30, std=20)])
@pytest.mark.parametrize("steps", [None, 1000])
def test_extreme_draws_stay_inside(config: TimeDensityConfig, steps: int | None) -> None:
    t = times(config, EXTREMES, steps)
    assert t.dtype == torch.float32 and bool((t > 0).all()) and bool((t <= 1).all())
    assert bool((t.diff() >= 0).all())
    if steps is None:
        assert bool((t < 1).all())
