"""The times that a sampler visits.

With S steps over a schedule of N points, whose index i = 0 .. N - 1 stands at t = (i + 1) / N, k = 0 .. S - 1 (backwards):

spacing        times                                        ends at   as in
trailing       t_k = round(N (k + 1) / S) / N               0         arXiv 2305.08891; here the default
leading        i_k = k floor(N / S)                         0         DDIM's code, guided-diffusion's `ddimS`
linspace       i_k = round(k (N - 1) / (S - 1))             0         `space_timesteps` of improved DDPM, ADM, DiT and MDT
ldm_uniform    i_k = k floor(N / S) + 1                     t = 1/N   latent diffusion's DDIM, Stable Diffusion 1
time_uniform   even in t from 1 to 1/N, between points too  t = 1/N   DPM-Solver's `time_uniform`: PixArt
log_snr        even in log-SNR from t = 1 to t = 1/N        t = 1/N   DPM-Solver's `logSNR`

Where a grid ends at t = 1/N the latents keep the little noise of the first point, as they do in the code that it is from.
One step goes from t = 1 to the end under every spacing; by their formulas leading, linspace and ldm_uniform would begin it
at the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError
from open_ldm.process.schedules import NETWORK_STEPS, Schedule

Spacing = Literal["trailing", "leading", "linspace", "ldm_uniform", "time_uniform", "log_snr"]


def time_grid(schedule: Schedule, steps: int, spacing: Spacing = "trailing", shift: float = 1.0) -> Tensor:
    """Space times from noise to data.

    For a discrete schedule every time is one of its points, but for `time_uniform` and `log_snr`. Of the spacings a schedule
    without points has `trailing`, even in t from 1 to 0, and `linspace`, `steps` times even from 1 to sigma(t = 1/1000) and
    then 0, as Stable Diffusion 3 samples.

    Args:
        schedule: The noise schedule.
        steps: Of the sampler.
        spacing: One of the table above.
        shift: k > 0; every time t becomes k t / (1 + (k - 1) t), only for a schedule without points (Stable Diffusion 3,
            arXiv 2403.03206, eq. 23; k = 3 as published). sigma(t = 1/1000) above is then shifted twice, as published.

    Returns:
        `steps` + 1 times, float64, decreasing; from exactly 1 (noise) but for `leading` and `ldm_uniform`, which begin a step's
        length later; to exactly 0 (data), or to 1/N where the table says so.

    Raises:
        ConfigError: There are fewer than 1 step, or more than a discrete schedule has, or the schedule does not have this
            spacing or shift.
    """
    points = schedule.discrete_steps
    most = None if points is None else points - (spacing == "ldm_uniform")  # its first point would lie behind the last
    if steps < 1 or (most is not None and steps > most):
        limit = f"between 1 and {most}, the steps of the schedule" if most is not None else "at least 1"
        raise ConfigError(
            f"a sampler cannot take {counted(steps, 'step')} here", needed=limit, fix="change the number of steps"
        )
    if points is not None:
        if shift != 1:
            raise ConfigError(
                f"sampling.time_shift={shift:g} has no meaning for a table of betas",
                needed="1, or a rectified flow",
                fix="process.resolution shifts the noise of a table",
            )
        return _of_points(schedule, points, steps, spacing)
    if spacing not in ("trailing", "linspace"):
        raise ConfigError(
            f"sampling.spacing={spacing} needs a schedule of discrete steps", needed="trailing or linspace for a rectified flow"
        )
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    if spacing == "linspace":
        first = torch.tensor(1 / NETWORK_STEPS, dtype=torch.float64)
        even = torch.cat([torch.linspace(1, float(_shifted(first, shift)), steps, dtype=torch.float64), torch.zeros(1)])
    return _shifted(even, shift)


def _of_points(schedule: Schedule, points: int, steps: int, spacing: Spacing) -> Tensor:
    numbers = torch.arange(steps, dtype=torch.float64)
    stride = points // steps
    if steps == 1:
        return torch.tensor([1.0, 0.0 if spacing in ("trailing", "leading", "linspace") else 1 / points], dtype=torch.float64)
    match spacing:
        case "trailing":
            even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
            return torch.floor(even * points + 0.5) / points
        case "leading":
            return _down_to(0, numbers * stride, points)
        case "ldm_uniform":
            return _down_to(1, numbers * stride + 1, points)
        case "linspace":
            return _down_to(0, torch.round(numbers * ((points - 1) / (steps - 1))), points)
        case "time_uniform":
            return torch.linspace(1, 1 / points, steps + 1, dtype=torch.float64)
        case "log_snr":
            return _even_in_log_snr(schedule, 1 / points, steps)


def _down_to(end: int, indices: Tensor, points: int) -> Tensor:
    """Times of indices i, from the last to the first, and then t = `end` / N."""
    return torch.cat([(indices.flip(0) + 1) / points, torch.tensor([end / points], dtype=torch.float64)])


def _even_in_log_snr(schedule: Schedule, end: float, steps: int) -> Tensor:
    ends = schedule.log_snr(torch.tensor([1.0, end], dtype=torch.float64))
    if not bool(ends.isfinite().all()):
        raise ConfigError(
            "sampling.spacing=log_snr needs a schedule that keeps some signal at t = 1",
            needed="another spacing, or zero_terminal_snr: false",
        )
    wanted = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    times = _bisected(schedule.log_snr, wanted, end)
    times[0], times[-1] = 1.0, end
    return times


def _bisected(decreasing: Callable[[Tensor], Tensor], wanted: Tensor, end: float) -> Tensor:
    """Times in [`end`, 1] at which a decreasing function has the wanted values, to the rounding of float64."""
    low, high = torch.full_like(wanted, end), torch.ones_like(wanted)
    for _ in range(60):
        middle = (low + high) / 2
        is_later = decreasing(middle) > wanted
        low, high = torch.where(is_later, middle, low), torch.where(is_later, high, middle)
    return (low + high) / 2


def _shifted(t: Tensor, k: float) -> Tensor:
    return t if k == 1 else k * t / (1 + (k - 1) * t)
