"""One alpha means one noise: gates on the noise level agree at equal log-SNR under every schedule."""

from __future__ import annotations

import math

import pytest
import torch

from open_ldm.conditioning.control import ControlEmbedding
from open_ldm.controls import OriginalSize
from open_ldm.controls.gate import CosinePowerGate, PowerCosineGate, gamma
from open_ldm.process.reference_clock import reference_time
from open_ldm.process.resolution import ResolutionConfig, rescaled
from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    Schedule,
    build_schedule,
)

LARGER = ResolutionConfig(from_px=256, to_px=512)
SCHEDULES: dict[str, Schedule] = {
    "linear": build_schedule(LinearSchedule()),
    "scaled_linear": build_schedule(ScaledLinearSchedule()),
    "cosine": build_schedule(CosineSchedule()),
    "flow": build_schedule(RectifiedFlowSchedule()),
    "flow, rescaled": rescaled(build_schedule(RectifiedFlowSchedule()), LARGER),
    "linear, rescaled": rescaled(build_schedule(LinearSchedule()), LARGER),
}
LEVELS = (8.0, 4.0, 1.0, 0.0, -1.0, -2.5, -4.0, -5.2)
"""log-SNR that all of them reach."""


def time_of_log_snr(schedule: Schedule, level: float) -> torch.Tensor:
    """Bisection on the schedule's own log-SNR, which falls with t."""
    low, high = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(schedule.log_snr(middle)) > level else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("gate", [PowerCosineGate(alpha=1.0), PowerCosineGate(alpha=8.0), CosinePowerGate(alpha=3.0)])
@pytest.mark.parametrize("level", LEVELS)
def test_gamma_is_equal_at_equal_noise(gate: PowerCosineGate | CosinePowerGate, level: float) -> None:
    found = {
        name: float(gamma(gate, reference_time(schedule, time_of_log_snr(schedule, level))))
        for name, schedule in SCHEDULES.items()
    }
    assert max(found.values()) - min(found.values()) < 1e-6, found


def test_bare_times_are_far_apart() -> None:
    """What the clock is for: where the DDPM gate stands at 0.1, flow's on bare t is over a hundred times more shut."""
    linear, flow = SCHEDULES["linear"], SCHEDULES["flow"]
    times = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    opened = times[(gamma(PowerCosineGate(), times) - 0.1).abs().argmin()]
    level = float(linear.log_snr(opened))
    on_t = float(gamma(PowerCosineGate(), time_of_log_snr(flow, level)))
    assert 0.1 / on_t > 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_the_reference_both_clocks_are_one(dtype: torch.dtype) -> None:
    times = torch.linspace(0, 1, 4001, dtype=dtype)
    found = reference_time(SCHEDULES["linear"], times)
    assert found.dtype == dtype
    torch.testing.assert_close(found, times, rtol=0, atol=2e-7 if dtype == torch.float32 else 1e-10)
    assert float(found[0]) == 0
    assert float(found[-1]) == 1


@pytest.mark.parametrize("name", ["linear", "flow", "flow, rescaled", "linear, rescaled"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 8.0])
def test_gates_are_exactly_shut_at_noise_and_open_at_data(name: str, alpha: float) -> None:
    ends = reference_time(SCHEDULES[name], torch.tensor([0.0, 1.0]))
    assert gamma(PowerCosineGate(alpha=alpha), ends).tolist() == [1.0, 0.0]


def test_a_schedule_that_ends_in_less_noise_ends_earlier() -> None:
    end = float(reference_time(SCHEDULES["scaled_linear"], torch.ones(1, dtype=torch.float64)))
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    alpha_bar = math.prod(1 - (first + i / 999 * (last - first)) ** 2 for i in range(1000))
    beta, wanted, product = 1e-4, 0, 1.0
    while product > alpha_bar:  # the same by hand, to a step of the table
        product *= 1 - (beta + wanted / 999 * (0.02 - 1e-4))
        wanted += 1
    assert (wanted - 1) / 1000 <= end <= wanted / 1000


@pytest.mark.parametrize("name", SCHEDULES)
def test_times_rise_with_t(name: str) -> None:
    found = reference_time(SCHEDULES[name], torch.linspace(0, 1, 5001, dtype=torch.float64))
    assert bool((found.diff() >= 0).all())
    assert float(found[4000] - found[1000]) > 0.1


def test_an_embedding_follows_its_clock() -> None:
    values, keep, t = torch.tensor([[32.0, 32.0]]), torch.ones(1, dtype=torch.bool), torch.tensor([0.6])
    found = {}
    for clock in ("noise_level", "time"):
        control = OriginalSize(gate=PowerCosineGate(alpha=2.0, clock=clock))
        embedding = ControlEmbedding(control, 8, SCHEDULES["flow"])
        torch.nn.init.constant_(embedding.out.bias, 1.0)
        found[clock] = float(embedding(values, keep, t)[0, 0].detach())
    assert found["time"] == pytest.approx((1 - math.cos(math.pi * 0.4**2)) / 2, abs=1e-6)
    u = float(reference_time(SCHEDULES["flow"], t))
    assert found["noise_level"] == pytest.approx((1 - math.cos(math.pi * (1 - u) ** 2)) / 2, abs=1e-6)
    assert found["noise_level"] > 4 * found["time"]
