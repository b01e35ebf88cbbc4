"""Learned reverse variances (Nichol & Dhariwal 2021, "Improved DDPM", eq. 14-16), for every schedule.

The network predicts where the log variance of the step from t to s = t - 1/N lies between two bounds. It learns this from
the variational bound of the step, in which the predicted mean is treated as a constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.process.posterior import Posterior, posterior
from open_ldm.process.prediction import Denoised
from open_ldm.process.schedules import Schedule

CONTINUOUS_STEPS = 1000
"""N of a continuous schedule: the length of the step whose variance is learned."""

_HALF_BIN = 1.0 / 255
"""Half of the distance between two neighbouring values of 8-bit data scaled to [-1, 1]."""


@dataclass(frozen=True)
class VarianceBounds:
    """Logs of the smallest (posterior) and the largest (forward beta) reverse variance of a step; same shape as its times."""

    log_posterior: Tensor
    log_beta: Tensor


def variance_bounds(schedule: Schedule, t: Tensor) -> VarianceBounds:
    """Compute the bounds of the log variance of the step from t to t - 1/N.

    The first step's posterior variance is 0; its log is replaced by that of the second step, as Improved DDPM does.
    Times of a continuous schedule below 1/N take the bounds of the first step.

    Args:
        schedule: The noise schedule.
        t: Times [B] in [0, 1].

    Returns:
        Bounds [B], float64.
    """
    step = 1 / _steps(schedule)
    t = schedule.exact_time(t)
    from_second = _step_from(schedule, t.clamp(min=2 * step))
    from_first = _step_from(schedule, t.clamp(min=step))
    variance = torch.where(_is_first(schedule, t), from_second.variance, from_first.variance)
    return VarianceBounds(variance.log(), from_first.beta.log())


def interpolated_log_variance(fraction: Tensor, bounds: VarianceBounds) -> Tensor:
    """Interpolate between the bounds: fraction -1 gives the posterior bound and +1 gives beta (eq. 15).

    Args:
        fraction: The network's output [B, ...]. It is not clipped: a network may leave [-1, 1].
        bounds: Bounds [B].

    Returns:
        Log variance [B, ...] in the dtype of `fraction`, at least float32.
    """
    share = (fraction + 1) / 2
    return share * _like(bounds.log_beta, fraction) + (1 - share) * _like(bounds.log_posterior, fraction)


def posterior_mean(step: Posterior, x_0: Tensor, x_t: Tensor) -> Tensor:
    """Compute the mean of q(x_s | x_t, x_0) for `x_0` and `x_t` [B, ...] and a step with tensors [B]."""
    return _like(step.x_t_weight, x_t) * x_t + _like(step.x_0_weight, x_0) * x_0


def variational_bound_bits(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Tensor, denoised: Denoised) -> Tensor:
    """Compute the term L_(t-1) of the variational bound, which trains `denoised.variance_fraction` alone.

    The term is KL(q(x_s | x_t, x_0) || p(x_s | x_t)) for s > 0, and -log2 p(x_0 | x_t) of the discretised Gaussian for the
    first step (Ho et al. 2020, eq. 5 and 13). No gradient reaches `denoised.x_0`.
    Differs from the paper: the Gaussian's distribution function is exact, not the tanh approximation of its code.

    Args:
        schedule: The noise schedule.
        x_0: Clean latents [B, ...].
        x_t: Noised latents [B, ...].
        t: Times [B] in [0, 1].
        denoised: The denoiser's estimate for `x_t`, with a variance fraction.

    Returns:
        Loss per sample [B], in bits per dimension.

    Raises:
        ValueError: `denoised` has no variance fraction.
    """
    if denoised.variance_fraction is None:
        raise ValueError("the variational bound needs a denoiser with a variance fraction")
    t = schedule.exact_time(t)
    bounds, step = variance_bounds(schedule, t), _step_from(schedule, t)
    mean = posterior_mean(step, denoised.x_0.detach(), x_t)
    log_variance = interpolated_log_variance(denoised.variance_fraction, bounds)
    divergence = _gaussian_kl(
        posterior_mean(step, x_0, x_t), _like(bounds.log_posterior, x_0).expand_as(x_0), mean, log_variance
    )
    surprise = _discretised_gaussian_nll(x_0, mean, log_variance)
    nats = torch.where(_like(_is_first(schedule, t), x_0).bool(), surprise, divergence)
    return nats.flatten(1).mean(1) / math.log(2)


def _steps(schedule: Schedule) -> int:
    return schedule.discrete_steps or CONTINUOUS_STEPS


def _is_first(schedule: Schedule, t: Tensor) -> Tensor:
    return t <= 1 / _steps(schedule)


def _step_from(schedule: Schedule, t: Tensor) -> Posterior:
    """The posterior of the step from t (float64) to t - 1/N, or to 0 where that is nearer."""
    return posterior(schedule.level(t), schedule.level((t - 1 / _steps(schedule)).clamp(min=0)))


def _like(values: Tensor, x: Tensor) -> Tensor:
    shape = (*values.shape, *(1,) * (x.ndim - values.ndim))
    return values.reshape(shape).to(torch.promote_types(x.dtype, torch.float32)).to(x.device)


def _gaussian_kl(mean_q: Tensor, log_variance_q: Tensor, mean_p: Tensor, log_variance_p: Tensor) -> Tensor:
    """KL(q || p) of two Gaussians, elementwise, in nats."""
    gap = log_variance_q - log_variance_p
    # expm1(gap) - gap keeps the digits that exp(gap) - 1 - gap loses when the two are nearly equal.
    return 0.5 * (torch.expm1(gap) - gap + (mean_q - mean_p) ** 2 * torch.exp(-log_variance_p))


def _discretised_gaussian_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return -log of the mass that a Gaussian puts on the bin of width 2/255 around `x`; the two end bins are open."""
    inverse_std = torch.exp(-0.5 * log_variance)
    below = torch.special.ndtr((x - mean - _HALF_BIN) * inverse_std)
    above = torch.special.ndtr((x - mean + _HALF_BIN) * inverse_std)
    below = torch.where(x < -0.999, torch.zeros_like(below), below)
    above = torch.where(x > 0.999, torch.ones_like(above), above)
    return -torch.log((above - below).clamp(min=1e-12))
