from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from open_ldm.process.prediction import PredictionKind, target, to_eps, to_x_0
from open_ldm.process.schedules import NoiseLevel
from tests.process.cases import SCHEDULES

KINDS: tuple[PredictionKind, ...] = get_args(PredictionKind)
T = torch.tensor([0.05, 0.3, 0.5, 0.75, 0.975], dtype=torch.float64)


def pair(count: int) -> tuple[Tensor, Tensor]:
    draws = torch.randn(2, count, 3, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return draws[0], draws[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_round_trip(name: str, kind: PredictionKind) -> None:
    schedule = SCHEDULES[name]
    x_0, eps = pair(len(T))
    level, x_t = schedule.level(T), schedule.noised(x_0, eps, T)
    output = target(kind, x_0, eps, level)
    torch.testing.assert_close(to_x_0(kind, output, x_t, level), x_0, rtol=0, atol=1e-11)
    torch.testing.assert_close(to_eps(kind, output, x_t, level), eps, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_any_output_gives_an_x_0_and_eps_that_make_up_x_t(kind: PredictionKind) -> None:
    # also off the circle alpha^2 + sigma^2 = 1 and off the line alpha + sigma = 1
    level = NoiseLevel(torch.tensor([0.2, 1.7], dtype=torch.float64), torch.tensor([3.0, 0.4], dtype=torch.float64))
    x_t, output = pair(2)
    x_0, eps = to_x_0(kind, output, x_t, level), to_eps(kind, output, x_t, level)
    at = level.like(x_t)
    torch.testing.assert_close(at.alpha * x_0 + at.sigma * eps, x_t, rtol=0, atol=1e-12)
    torch.testing.assert_close(target(kind, x_0, eps, level), output, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["linear_zero_terminal", "rectified_flow"])
def test_both_ends(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x_0, eps = pair(2)
    level, x_t = schedule.level(t), schedule.noised(x_0, eps, t)
    for kind in KINDS:
        output = target(kind, x_0, eps, level)
        clean, noise = to_x_0(kind, output, x_t, level), to_eps(kind, output, x_t, level)
        torch.testing.assert_close(clean[0], x_0[0])
        torch.testing.assert_close(noise[1], eps[1])
        torch.testing.assert_close(clean[1], torch.zeros_like(x_0[1]) if kind == "eps" else x_0[1])
        torch.testing.assert_close(noise[0], torch.zeros_like(eps[0]) if kind == "x_0" else eps[0])


def test_gradients_stay_finite_at_the_singular_points() -> None:
    level = NoiseLevel(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    x_t = torch.ones(2, 1, 1, 1)
    for kind in KINDS:
        output = torch.full_like(x_t, 0.3, requires_grad=True)
        total = (to_x_0(kind, output, x_t, level) + to_eps(kind, output, x_t, level)).sum()
        (gradient,) = torch.autograd.grad(total, output)
        assert bool(gradient.isfinite().all())
