"""Gaussian data x_0 ~ N(MEAN, STD^2), whose exact denoiser and sampling paths are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.process.prediction import Denoised
from open_ldm.process.schedules import Schedule
from open_ldm.sampling.solvers import Denoise

MEAN, STD = 0.7, 0.4


def exact_denoiser(schedule: Schedule) -> Denoise:
    """E[x_0 | x_t] = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha m)."""

    def denoise(x_t: Tensor, t: float) -> Denoised:
        level = schedule.level(torch.tensor(t, dtype=torch.float64))
        gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
        return Denoised(MEAN + gain * (x_t - level.alpha * MEAN))

    return denoise


def spread(schedule: Schedule, t: float) -> float:
    """Standard deviation of x_t."""
    level = schedule.level(torch.tensor(t, dtype=torch.float64))
    return float(torch.sqrt(level.alpha**2 * STD**2 + level.sigma**2))


def on_path(schedule: Schedule, t: float, w: Tensor) -> Tensor:
    """The probability-flow path that ends at MEAN + STD w: x_t = alpha m + sqrt(alpha^2 s^2 + sigma^2) w."""
    return schedule.level(torch.tensor(t, dtype=torch.float64)).alpha * MEAN + spread(schedule, t) * w
