"""Noise schedules: x_t = alpha_t x_0 + sigma_t eps, t in [0, 1], t = 0 is data, t = 1 is noise.

Every property of a schedule follows from one function, `Schedule.level`. A schedule that shifts the log-SNR of another one
(docs/method.md section 5.2) is therefore another `Schedule` that wraps it and changes its level: see resolution.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config

NETWORK_STEPS = 1000
"""Networks receive the time in thousandths: 0..999 for DDPM schedules, (0, 1000] for rectified flow."""


@dataclass(frozen=True)
class NoiseLevel:
    """alpha_t >= 0 and sigma_t >= 0 at some times, never both zero; two tensors of the same shape."""

    alpha: Tensor
    sigma: Tensor

    @property
    def snr(self) -> Tensor:
        """alpha^2 / sigma^2; infinite at t = 0."""
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2); +inf where sigma = 0, -inf where alpha = 0."""
        return 2 * (torch.log(self.alpha) - torch.log(self.sigma))

    def like(self, x: Tensor) -> NoiseLevel:
        """Return the level shaped [B, 1, 1, ...], so that it multiplies `x` [B, ...]; on its device, at least float32."""
        shape = (*self.alpha.shape, *(1,) * (x.ndim - self.alpha.ndim))
        dtype = torch.promote_types(x.dtype, torch.float32)
        return NoiseLevel(
            self.alpha.reshape(shape).to(dtype).to(x.device),
            self.sigma.reshape(shape).to(dtype).to(x.device),
        )


class LinearSchedule(Config):
    """beta_i from `beta_start` to `beta_end` in equal steps (DDPM, Ho et al. 2020; DiT, MDTv2, PixArt).

    `zero_terminal_snr` rescales alpha so that t = 1 is pure noise (Lin et al. 2023, arXiv 2305.08891, algorithm 1).
    """

    kind: Literal["linear"] = "linear"
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    steps: int = Field(default=1000, ge=2)
    zero_terminal_snr: bool = False


class ScaledLinearSchedule(Config):
    """sqrt(beta_i) in equal steps (latent diffusion; 0.0015 to 0.0195 for LDM-4-G).

    `zero_terminal_snr` as in `LinearSchedule`.
    """

    kind: Literal["scaled_linear"] = "scaled_linear"
    beta_start: float = Field(default=0.00085, gt=0, lt=1)
    beta_end: float = Field(default=0.012, gt=0, lt=1)
    steps: int = Field(default=1000, ge=2)
    zero_terminal_snr: bool = False


class CosineSchedule(Config):
    """alpha_bar(t) = cos^2(pi/2 (t + 0.008) / 1.008), as betas of at most 0.999 (Nichol & Dhariwal 2021, eq. 17).

    `zero_terminal_snr` as in `LinearSchedule`.
    """

    kind: Literal["cosine"] = "cosine"
    steps: int = Field(default=1000, ge=2)
    zero_terminal_snr: bool = False


class RectifiedFlowSchedule(Config):
    """alpha = 1 - t, sigma = t: a straight path from data to noise (Liu et al. 2022; Stable Diffusion 3)."""

    kind: Literal["rectified_flow"] = "rectified_flow"


ScheduleConfig = Annotated[
    LinearSchedule | ScaledLinearSchedule | CosineSchedule | RectifiedFlowSchedule, Field(discriminator="kind")
]


class Schedule(ABC):
    """alpha_t and sigma_t for times t in [0, 1]; the log-SNR decreases strictly with t."""

    discrete_steps: int | None = None
    """Number N of steps the schedule is defined on (times 1/N, 2/N, ..., 1), or None when it is continuous."""

    @abstractmethod
    def level(self, t: Tensor) -> NoiseLevel:
        """Compute alpha_t and sigma_t, in the shape and dtype of `t` (any shape, float32 or float64, in [0, 1])."""

    @abstractmethod
    def scaled(self, level: NoiseLevel) -> NoiseLevel:
        """Rescale a level to this schedule's own scale (alpha^2 + sigma^2 = 1, or alpha + sigma = 1) at the same SNR."""

    @abstractmethod
    def network_time(self, t: Tensor) -> Tensor:
        """Compute the number that a network receives for time `t`, in its shape and dtype. No other code knows this mapping."""

    def exact_time(self, t: Tensor) -> Tensor:
        """Return `t` in the widest float of its device, without the rounding of float32 where that can be recognised."""
        return _widest(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """Compute log(alpha_t^2 / sigma_t^2): +inf at t = 0, and -inf at t = 1 where the schedule ends in pure noise."""
        return self.level(t).log_snr

    def noised(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Compute x_t = alpha_t x_0 + sigma_t eps, at least in float32.

        Args:
            x_0: Clean latents [B, ...].
            eps: Unit noise [B, ...].
            t: Times [B] in [0, 1], or one time [] for all.

        Returns:
            x_t [B, ...].
        """
        level = self.level(t).like(x_0)
        return level.alpha * x_0 + level.sigma * eps


class TableSchedule(Schedule):
    """A DDPM schedule: alpha_bar_i for i = 0..N-1, met exactly at t = (i + 1) / N; alpha = 1, sigma = 0 at t = 0.

    Between two points the angle atan2(sigma, alpha) is interpolated linearly, so alpha^2 + sigma^2 stays 1. Both ends (pure
    data, and pure noise for zero terminal SNR) are finite as angles; in log-SNR they are not.
    """

    discrete_steps: int

    def __init__(self, alpha_bar: Tensor) -> None:
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar.to("cpu", torch.float64)])
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.discrete_steps = len(alpha_bar) - 1
        self._table = torch.stack([alpha, sigma, torch.atan2(sigma, alpha)])
        self._table_on: dict[torch.device, Tensor] = {}

    def level(self, t: Tensor) -> NoiseLevel:
        """Interpolate the angle of the table at t; see `Schedule.level`."""
        position = _snapped(t, self.discrete_steps)
        below = position.floor()
        alpha, sigma, angle = self._points(below)
        _, _, next_angle = self._points((below + 1).clamp(max=self.discrete_steps))
        between = torch.lerp(angle, next_angle, position - below)
        on_point = position == below
        return NoiseLevel(
            torch.where(on_point, alpha, between.cos()).to(t.dtype),
            torch.where(on_point, sigma, between.sin()).to(t.dtype),
        )

    def time_of(self, level: NoiseLevel) -> Tensor:
        """Compute the time at which this schedule has the SNR of `level`: the inverse of `level`, whatever its scale.

        Args:
            level: alpha and sigma, of any shape.

        Returns:
            Times in [0, 1], in the shape and dtype of the level: 1 where the SNR is at most that of the schedule's end.
        """
        angle = torch.atan2(level.sigma, level.alpha)
        every = torch.arange(self.discrete_steps + 1, dtype=angle.dtype, device=angle.device)
        _, _, angles = self._points(every)
        above = torch.searchsorted(angles, angle.contiguous()).clamp(1, self.discrete_steps)
        low, high = angles[above - 1], angles[above]
        position = above - 1 + (angle - low) / (high - low)
        at_end = angle >= angles[-1] - 4 * torch.finfo(angle.dtype).eps
        return torch.where(at_end, 1.0, (position / self.discrete_steps).clamp(0, 1))

    def scaled(self, level: NoiseLevel) -> NoiseLevel:
        """Rescale to alpha^2 + sigma^2 = 1."""
        norm = torch.hypot(level.alpha, level.sigma)
        return NoiseLevel(level.alpha / norm, level.sigma / norm)

    def network_time(self, t: Tensor) -> Tensor:
        """Compute the DDPM index i = 1000 t - 1, at least 0, fractional between points: 0..999 for any number of steps."""
        return (_snapped(t, NETWORK_STEPS) - 1).clamp(min=0).to(t.dtype)

    def exact_time(self, t: Tensor) -> Tensor:
        """Return t without the rounding of its dtype, where it stands for a point of the table."""
        return _snapped(t, self.discrete_steps) / self.discrete_steps

    def _points(self, index: Tensor) -> Tensor:
        """(alpha, sigma, angle) [3, *index.shape] of table points."""
        if index.device not in self._table_on:
            self._table_on[index.device] = self._table.to(index.dtype).to(index.device)
        table = self._table_on[index.device]
        # index_select, unlike [...], refuses a negative index: a time below 0 is an error and not the noise end.
        return table.index_select(1, index.long().flatten()).reshape(3, *index.shape)


class RectifiedFlow(Schedule):
    """alpha = 1 - t, sigma = t."""

    def level(self, t: Tensor) -> NoiseLevel:
        """Return alpha = 1 - t and sigma = t."""
        return NoiseLevel(1 - t, t)

    def scaled(self, level: NoiseLevel) -> NoiseLevel:
        """Rescale to alpha + sigma = 1."""
        norm = level.alpha + level.sigma
        return NoiseLevel(level.alpha / norm, level.sigma / norm)

    def network_time(self, t: Tensor) -> Tensor:
        """Compute 1000 sigma_t (Stable Diffusion 3)."""
        return NETWORK_STEPS * self.level(t).sigma


def build_schedule(config: ScheduleConfig) -> Schedule:
    """Build the schedule that a config describes."""
    match config:
        case RectifiedFlowSchedule():
            return RectifiedFlow()
        case LinearSchedule():
            beta = torch.linspace(config.beta_start, config.beta_end, config.steps, dtype=torch.float64)
        case ScaledLinearSchedule():
            ends = math.sqrt(config.beta_start), math.sqrt(config.beta_end)
            beta = torch.linspace(*ends, config.steps, dtype=torch.float64) ** 2
        case CosineSchedule():
            t = torch.linspace(0, 1, config.steps + 1, dtype=torch.float64)
            alpha_bar = torch.cos(math.pi / 2 * (t + 0.008) / 1.008) ** 2
            beta = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    alpha_bar = torch.cumprod(1 - beta, 0)
    return TableSchedule(_zero_terminal_snr(alpha_bar) if config.zero_terminal_snr else alpha_bar)


def _zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    alpha = alpha_bar.sqrt()
    return ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2


def _widest(t: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return t.to(torch.float32 if t.device.type == "mps" else torch.float64)


def _snapped(t: Tensor, steps: int) -> Tensor:
    """Return `steps * t`, rounded where it is a whole number up to the rounding of t's dtype."""
    position = _widest(t) * steps
    whole = position.round()
    return torch.where((position - whole).abs() <= 4 * steps * torch.finfo(t.dtype).eps, whole, position)
