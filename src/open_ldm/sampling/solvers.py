"""Solvers: from noise to latents, each a plain function of a denoiser, a schedule and a time grid.

Solver      evaluations of the denoiser for N steps   order   random
ddpm        N                                         -       yes
ddim        N                                         1       only for eta > 0
euler       N                                         1       no (equal to ddim with eta = 0)
heun        2 N - 1                                   2       no
dpmpp_2m    N                                         2       no

The orders are those between the ends of a path. At the ends, where log-SNR is infinite, dpmpp_2m falls back to first
order, and tables of beta jump from t = 1/N to 0, so that a whole path gains a little less than its order says.

With z = x / (alpha + sigma) and tau = sigma / (alpha + sigma), every schedule's probability-flow path is
dz / dtau = eps - x_0: the straight path of rectified flow, singular at neither end. euler and heun step there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.process.posterior import Posterior, posterior
from open_ldm.process.prediction import Denoised
from open_ldm.process.schedules import NoiseLevel, Schedule

Denoise = Callable[[Tensor, float], Denoised]
"""(x_t [B, C, H, W], t) -> estimate of x_0."""

Noise = Callable[[int], Tensor]
"""Step number -> unit noise [B, C, H, W], the same at every call (core/seeds.py)."""

OnStep = Callable[[int, Tensor], None]
"""Called after each step with its number, from 0, and the x_0 [B, C, H, W] that was estimated at its start."""


class Solver(Protocol):
    """Carries latents from noise to data.

    Args:
        denoise: Estimates x_0; guidance is inside it.
        schedule: The noise schedule.
        x: Noised latents [B, C, H, W] at times[0].
        times: Decreasing, float64; normally a `time_grid`.
        noise: Called only by random solvers, at most once a step, and not for a step that ends at 0.
        on_step: Called after each step.

    Returns:
        Latents at times[-1] in the dtype of `x`; at time 0 they are the sampled x_0.

    Raises:
        ConfigError: The times do not decrease.
    """

    def __call__(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x: Tensor,
        times: Tensor,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Carry latents from times[0] to times[-1]; the arguments are those of the class."""


@dataclass(frozen=True)
class _Point:
    """One time of the grid as plain numbers, so that no step waits for a device."""

    t: float
    alpha: float
    sigma: float

    @property
    def scale(self) -> float:
        """`alpha + sigma`, by which x_t is divided on the straight path."""
        return self.alpha + self.sigma

    @property
    def tau(self) -> float:
        """Share of the noise, in [0, 1]."""
        return self.sigma / self.scale

    @property
    def half_log_snr(self) -> float:
        """`log(alpha / sigma)`, infinite at the ends."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)

    def eps(self, x: Tensor, x_0: Tensor) -> Tensor:
        """Return the noise in `x` that an estimate `x_0` leaves."""
        return (x - self.alpha * x_0) / self.sigma


def ddpm(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise, on_step: OnStep | None = None) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2): x_s ~ N(posterior mean at the estimated x_0, variance).

    The variance is the posterior's, or lies between it and beta where the denoiser learned a fraction (Nichol &
    Dhariwal 2021, eq. 15). Both are those of the step actually taken, so any number of steps is consistent.
    """
    points, steps = _points(schedule, times), _posteriors(schedule, times)
    weights = zip(
        steps.x_t_weight.tolist(), steps.x_0_weight.tolist(), steps.variance.tolist(), steps.beta.tolist(), strict=True
    )
    for i, (x_t_weight, x_0_weight, variance, beta) in enumerate(weights):
        denoised = denoise(x, points[i].t)
        x = x_t_weight * x + x_0_weight * denoised.x_0
        if variance > 0:
            x = x + _deviation(denoised.variance_fraction, variance, beta) * noise(i)
        _report(on_step, i, denoised.x_0)
    return x


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    noise: Noise,
    on_step: OnStep | None = None,
    *,
    eta: float = 0.0,
) -> Tensor:
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 variance) eps + eta sqrt(variance) noise (Song et al. 2021, eq. 12).

    `variance` is that of the posterior. eta in [0, 1]: 0 is deterministic, 1 is ddpm without a learned variance.
    """
    steps = _posteriors(schedule, times)
    for i, (now, then) in enumerate(pairwise(_points(schedule, times))):
        x_0 = denoise(x, now.t).x_0
        variance = eta**2 * float(steps.variance[i])
        # Rounding may leave a hair below zero where the posterior forgets x_t (alpha_t = 0).
        kept = math.sqrt(max(0.0, then.sigma**2 - variance))
        x = then.alpha * x_0 + kept * now.eps(x, x_0)
        if variance > 0:
            x = x + math.sqrt(variance) * noise(i)
        _report(on_step, i, x_0)
    return x


def euler(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """Euler's method on dz / dtau = eps - x_0: first order, exact where x_0 and eps stay constant along the path."""
    for i, (now, then) in enumerate(pairwise(_points(schedule, times))):
        x_0 = denoise(x, now.t).x_0
        slope = now.eps(x, x_0) - x_0
        x = then.scale * (x / now.scale + (then.tau - now.tau) * slope)
        _report(on_step, i, x_0)
    return x


def heun(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise, on_step: OnStep | None = None) -> Tensor:
    """Heun's method on dz / dtau = eps - x_0: the mean of the slopes at both ends of a step, second order.

    A step that ends at t = 0 is Euler's (Karras et al. 2022, algorithm 1): eps cannot be read off an x without noise.
    """
    for i, (now, then) in enumerate(pairwise(_points(schedule, times))):
        x_0 = denoise(x, now.t).x_0
        slope = now.eps(x, x_0) - x_0
        z, length = x / now.scale, then.tau - now.tau
        x = then.scale * (z + length * slope)
        if then.sigma > 0:
            x_0_then = denoise(x, then.t).x_0
            x = then.scale * (z + length / 2 * (slope + then.eps(x, x_0_then) - x_0_then))
        _report(on_step, i, x_0)
    return x


def dpmpp_2m(
    denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): x_0 extrapolated in log-SNR, second order.

    x_s = (sigma_s / sigma_t) x + (alpha_s - alpha_t sigma_s / sigma_t) D, D = x_0 + (x_0 - x_0') h / (2 h'), with h the
    step in log(alpha / sigma) and x_0', h' those of the step before. Where there is nothing to extrapolate from, or
    log-SNR is infinite, D = x_0: in the first step, after a step that began at alpha = 0, and in one to sigma = 0.
    """
    before: Tensor | None = None
    step_before = math.inf
    for i, (now, then) in enumerate(pairwise(_points(schedule, times))):
        x_0 = denoise(x, now.t).x_0
        step = then.half_log_snr - now.half_log_snr
        estimate = x_0
        if before is not None and math.isfinite(step):
            estimate = x_0 + step / (2 * step_before) * (x_0 - before)
        shrink = then.sigma / now.sigma
        x = shrink * x + (then.alpha - now.alpha * shrink) * estimate
        before, step_before = x_0, step
        _report(on_step, i, x_0)
    return x


SOLVERS: dict[str, Solver] = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}
"""Solvers by the name a recipe or the command line gives; ddim with eta = 0."""


def _levels(schedule: Schedule, times: Tensor) -> NoiseLevel:
    times = times.to("cpu", torch.float64)
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()):
        raise ConfigError("the sampling times do not decrease", needed="at least two times, decreasing from noise to data")
    return schedule.level(times)


def _points(schedule: Schedule, times: Tensor) -> list[_Point]:
    level = _levels(schedule, times)
    numbers = zip(times.tolist(), level.alpha.tolist(), level.sigma.tolist(), strict=True)
    return [_Point(t, alpha, sigma) for t, alpha, sigma in numbers]


def _posteriors(schedule: Schedule, times: Tensor) -> Posterior:
    """The posterior of every step of the grid; tensors [steps], float64."""
    level = _levels(schedule, times)
    return posterior(NoiseLevel(level.alpha[:-1], level.sigma[:-1]), NoiseLevel(level.alpha[1:], level.sigma[1:]))


def _deviation(fraction: Tensor | None, variance: float, beta: float) -> Tensor | float:
    if fraction is None:
        return math.sqrt(variance)
    share = (fraction + 1) / 2
    return torch.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(variance)))


def _report(on_step: OnStep | None, i: int, x_0: Tensor) -> None:
    if on_step is not None:
        on_step(i, x_0)
