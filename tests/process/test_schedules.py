from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from pydantic import TypeAdapter, ValidationError

from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    ScheduleConfig,
    TableSchedule,
    build_schedule,
)
from tests.process.cases import SCHEDULES

TABLES = [name for name in SCHEDULES if not name.startswith("rectified_flow")]
LDM_4_G = ScaledLinearSchedule(beta_start=0.0015, beta_end=0.0195)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LinearSchedule(), DDPMScheduler(1000, 1e-4, 0.02, "linear")),
        (ScaledLinearSchedule(), DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")),
        (LDM_4_G, DDIMScheduler(1000, 0.0015, 0.0195, "scaled_linear")),
        (CosineSchedule(), DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")),
        (
            LinearSchedule(zero_terminal_snr=True),
            DDPMScheduler(1000, 1e-4, 0.02, "linear", rescale_betas_zero_snr=True),
        ),
        (
            ScaledLinearSchedule(zero_terminal_snr=True),
            DDIMScheduler(1000, 0.00085, 0.012, "scaled_linear", rescale_betas_zero_snr=True),
        ),
    ],
    ids=["linear", "scaled_linear", "ldm_4_g", "cosine", "linear_zero_terminal", "scaled_linear_zero_terminal"],
)
def test_alpha_bar_equals_diffusers(config: ScheduleConfig, published: DDPMScheduler | DDIMScheduler) -> None:
    t = torch.arange(1, 1001) / 1000
    alpha_bar = build_schedule(config).level(t).alpha.double() ** 2
    # theirs is a float32 product of 1000 factors
    torch.testing.assert_close(alpha_bar, published.alphas_cumprod.double(), rtol=2e-4, atol=1e-7)


def test_linear_equals_its_definition_in_float64() -> None:
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    level = SCHEDULES["linear"].level(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    np.testing.assert_allclose(level.alpha.numpy(), np.sqrt(alpha_bar), rtol=1e-13)
    np.testing.assert_allclose(level.sigma.numpy(), np.sqrt(1 - alpha_bar), rtol=1e-13)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ends_and_fall_of_log_snr(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.linspace(0, 1, 3701, dtype=torch.float64)
    level, log_snr = schedule.level(t), schedule.log_snr(t)
    assert level.alpha[0] == 1 and level.sigma[0] == 0 and log_snr[0] == torch.inf
    assert bool((log_snr.diff() < 0).all())
    assert bool((level.alpha >= 0).all()) and bool((level.sigma >= 0).all())
    if name in TABLES:
        torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones_like(t), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["linear_zero_terminal", "rectified_flow"])
def test_pure_noise_is_exact(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        level = SCHEDULES[name].level(torch.ones(2, dtype=dtype))
        assert level.alpha.tolist() == [0, 0] and level.sigma.tolist() == [1, 1]
        assert level.log_snr.tolist() == [-torch.inf] * 2


@pytest.mark.parametrize("name", TABLES)
def test_float32_times_meet_the_points(name: str) -> None:
    schedule = SCHEDULES[name]
    steps = schedule.discrete_steps
    assert steps is not None
    index = torch.arange(0, steps + 1, dtype=torch.float64)
    wide, narrow = schedule.level(index / steps), schedule.level((index / steps).float())
    assert narrow.alpha.dtype == torch.float32
    assert torch.equal(wide.alpha.float(), narrow.alpha) and torch.equal(wide.sigma.float(), narrow.sigma)
    assert torch.equal(schedule.exact_time((index / steps).float()), index / steps)


def test_between_points_the_angle_is_linear() -> None:
    schedule = SCHEDULES["linear"]
    t = torch.tensor([0.25, 0.25025, 0.251], dtype=torch.float64)
    level = schedule.level(t)
    angle = torch.atan2(level.sigma, level.alpha)
    torch.testing.assert_close(angle[1], 0.75 * angle[0] + 0.25 * angle[2], rtol=1e-12, atol=0)


def test_shapes_and_negative_times() -> None:
    for schedule in SCHEDULES.values():
        for shape in [(), (3,), (2, 3)]:
            level = schedule.level(torch.full(shape, 0.3))
            assert level.alpha.shape == level.sigma.shape == schedule.network_time(torch.full(shape, 0.3)).shape == shape
    with pytest.raises((IndexError, RuntimeError)):
        SCHEDULES["linear"].level(torch.tensor([-0.1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_time_is_the_published_index(dtype: torch.dtype) -> None:
    index = torch.arange(1000, dtype=dtype)
    assert torch.equal(SCHEDULES["linear"].network_time((index + 1) / 1000), index)
    short = SCHEDULES["linear_40_steps"].network_time((torch.arange(40, dtype=dtype) + 1) / 40)
    assert torch.equal(short, 25 * (torch.arange(40, dtype=dtype) + 1) - 1)
    assert SCHEDULES["linear"].network_time(torch.tensor([0.0, 0.0005], dtype=dtype)).tolist() == [0, 0]
    assert SCHEDULES["linear"].network_time(torch.tensor([0.5005], dtype=dtype)).item() == pytest.approx(499.5)
    assert SCHEDULES["rectified_flow"].network_time(torch.tensor([0.25, 1.0], dtype=dtype)).tolist() == [250, 1000]


def test_noised_broadcasts_times_over_latents() -> None:
    x_0, eps = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).unbind()
    t = torch.tensor([0.2, 0.5, 1.0])
    for schedule in SCHEDULES.values():
        level, x_t = schedule.level(t), schedule.noised(x_0, eps, t)
        for row in range(3):
            torch.testing.assert_close(x_t[row], level.alpha[row] * x_0[row] + level.sigma[row] * eps[row])
        torch.testing.assert_close(schedule.noised(x_0, eps, t[1]), schedule.noised(x_0, eps, t[1].expand(3)))
        assert schedule.noised(x_0.bfloat16(), eps.bfloat16(), t).dtype == torch.float32


def test_configs_are_told_apart_by_kind() -> None:
    adapter: TypeAdapter[ScheduleConfig] = TypeAdapter(ScheduleConfig)
    for config in (LinearSchedule(steps=10), ScaledLinearSchedule(), CosineSchedule(), RectifiedFlowSchedule()):
        assert adapter.validate_python(config.model_dump()) == config
    assert isinstance(build_schedule(CosineSchedule(steps=10)), TableSchedule)
    for wrong in ({"kind": "rectified_flow", "steps": 10}, {"kind": "linear", "beta_end": 1.0}, {"kind": "sine"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
