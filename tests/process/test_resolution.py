"""The noise schedule of another picture size, against the closed forms and against pictures that were really enlarged."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from open_ldm.process.learned_variance import variance_bounds
from open_ldm.process.resolution import RescaledSchedule, ResolutionConfig, rescaled
from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    NoiseLevel,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    ScheduleConfig,
    build_schedule,
)
from open_ldm.sampling.time_grid import time_grid

SIZES = [(32, 64), (64, 32), (256, 1024), ((48, 64), (96, 64))]
TABLES: list[ScheduleConfig] = [LinearSchedule(), ScaledLinearSchedule(zero_terminal_snr=True), CosineSchedule(steps=50)]
T = torch.linspace(0, 1, 1001, dtype=torch.float64)


def side(size: int | tuple[int, int]) -> float:
    return float(size) if isinstance(size, int) else (size[0] * size[1]) ** 0.5


def moved(config: ScheduleConfig, old: int | tuple[int, int], new: int | tuple[int, int]) -> RescaledSchedule:
    schedule = rescaled(build_schedule(config), ResolutionConfig(from_px=old, to_px=new))
    assert isinstance(schedule, RescaledSchedule)
    return schedule


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("config", TABLES, ids=lambda config: config.kind)
def test_alpha_bar_is_the_closed_form(config: ScheduleConfig, old: int, new: int) -> None:
    before, after = build_schedule(config).level(T).alpha ** 2, moved(config, old, new).level(T)
    s, s_new = side(old), side(new)
    wanted = s**2 * before / (s_new**2 + before * (s**2 - s_new**2))
    torch.testing.assert_close(after.alpha**2, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(after.alpha**2 + after.sigma**2, torch.ones_like(T), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_rectified_flow_is_the_time_shift(old: int, new: int) -> None:
    k = side(new) / side(old)
    level = moved(RectifiedFlowSchedule(), old, new).level(T)
    torch.testing.assert_close(level.sigma, k * T / (1 + (k - 1) * T), rtol=1e-13, atol=0)
    torch.testing.assert_close(level.alpha, 1 - level.sigma, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("config", [*TABLES, RectifiedFlowSchedule()], ids=lambda config: config.kind)
def test_both_are_one_shift_of_log_snr_and_the_way_back_undoes_it(config: ScheduleConfig, old: int, new: int) -> None:
    inner, inside = build_schedule(config), T[1:-1]
    there, back = moved(config, old, new), ResolutionConfig(from_px=new, to_px=old)
    torch.testing.assert_close(
        there.log_snr(inside) - inner.log_snr(inside),
        torch.full_like(inside, -2 * torch.log(torch.tensor(side(new) / side(old))).item()),
        rtol=1e-6,
        atol=0,
    )
    again = rescaled(there, back).level(T)
    torch.testing.assert_close(again.alpha, inner.level(T).alpha, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(again.sigma, inner.level(T).sigma, rtol=1e-12, atol=1e-14)


def observed(level: NoiseLevel, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Values N(0, 1) of a small picture, and the mean of the `copies` noisy pixels that each has become."""
    source = torch.Generator().manual_seed(seed)
    value = torch.randn(400_000, dtype=torch.float64, generator=source)
    noise = torch.randn(len(value), copies, dtype=torch.float64, generator=source)
    return value, (level.alpha * value.unsqueeze(1) + level.sigma * noise).mean(dim=1)


@pytest.mark.parametrize("t", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("config", [LinearSchedule(), RectifiedFlowSchedule()], ids=lambda config: config.kind)
def test_a_patch_seen_four_times_is_as_uncertain_as_one_pixel_was(config: ScheduleConfig, t: float) -> None:
    """Grown from 32 to 64 px under drawn noise: the variance of the noise on a value, and of what the best guess leaves of it,
    are those of one pixel of the small picture, 1 / snr and 1 / (1 + snr)."""
    time = torch.tensor(t, dtype=torch.float64)
    snr = float(build_schedule(config).level(time).snr)
    level = moved(config, 32, 64).level(time)
    value, mean = observed(level, copies=4, seed=3)
    noise = mean / level.alpha - value
    guess = mean * (value * mean).mean() / (mean * mean).mean()
    assert float(noise.var()) == pytest.approx(1 / snr, rel=0.01)
    assert float((value - guess).var()) == pytest.approx(1 / (1 + snr), rel=0.01)
    # Under the schedule as it was, the network would know four times as much as it learned to expect.
    kept = build_schedule(config).level(time)
    value, mean = observed(kept, copies=4, seed=4)
    assert float((mean / kept.alpha - value).var()) == pytest.approx(1 / (4 * snr), rel=0.01)


@pytest.mark.parametrize("config", [LinearSchedule(), RectifiedFlowSchedule()], ids=lambda config: config.kind)
def test_the_network_is_told_the_time_of_pre_training(config: ScheduleConfig) -> None:
    inner, outer = build_schedule(config), moved(config, 32, 64)
    for t in (T, T.float()):
        assert torch.equal(outer.network_time(t), inner.network_time(t))
        assert torch.equal(outer.exact_time(t), inner.exact_time(t))
    assert torch.equal(time_grid(outer, 20), time_grid(inner, 20))
    assert outer.discrete_steps == inner.discrete_steps


def test_float32_times_give_the_rounded_exact_level() -> None:
    for config in (LinearSchedule(), RectifiedFlowSchedule()):
        schedule, t = moved(config, 32, 64), torch.linspace(0, 1, 1001)
        narrow, wide = schedule.level(t), schedule.level(schedule.exact_time(t))
        assert narrow.alpha.dtype == torch.float32
        assert torch.equal(narrow.alpha, wide.alpha.float()) and torch.equal(narrow.sigma, wide.sigma.float())


@pytest.mark.parametrize("config", [LinearSchedule(), RectifiedFlowSchedule()], ids=lambda config: config.kind)
def test_learned_variances_are_bounded_at_the_moved_level(config: ScheduleConfig) -> None:
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    bounds, before = variance_bounds(moved(config, 32, 64), t), variance_bounds(build_schedule(config), t)
    for one in (bounds.log_posterior, bounds.log_beta):
        assert bool(torch.isfinite(one).all())
    assert bool((bounds.log_posterior <= bounds.log_beta + 1e-12).all())
    assert not torch.allclose(bounds.log_beta, before.log_beta)


def test_sizes_that_change_nothing_are_refused() -> None:
    for old, new in ((64, 64), ((32, 64), (64, 32))):
        with pytest.raises(ValidationError, match="no effect"):
            ResolutionConfig(from_px=old, to_px=new)
    assert rescaled(build_schedule(LinearSchedule()), None).discrete_steps == 1000
