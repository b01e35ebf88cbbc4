"""One step back: q(x_s | x_t, x_0) between two noise levels of any schedule, s earlier (cleaner) than t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.process.schedules import NoiseLevel


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x_0) = N(x_t_weight x_t + x_0_weight x_0, variance I); tensors of the levels' shape.

    `beta` is the variance of the forward step q(x_t | x_s) and the upper bound of the reverse variance; `variance` is the
    lower bound.
    """

    x_t_weight: Tensor
    x_0_weight: Tensor
    variance: Tensor
    beta: Tensor


def posterior(later: NoiseLevel, earlier: NoiseLevel) -> Posterior:
    """Compute the posterior of the step from `later` (time t) to `earlier` (time s < t).

    With kept = snr_t / snr_s (Ho et al. 2020, eq. 6-7; Kingma et al. 2021, appendix A, without alpha^2 + sigma^2 = 1):
    beta = sigma_t^2 (1 - kept), variance = sigma_s^2 (1 - kept), x_0_weight = alpha_s (1 - kept),
    x_t_weight = (alpha_t / alpha_s) (sigma_s / sigma_t)^2. All are finite, also for alpha_t = 0 and sigma_s = 0.

    Args:
        later: Noise level at t, preferably float64, because the two levels may be close.
        earlier: Noise level at s, of the same shape.
    """
    lost = -torch.expm1(later.log_snr - earlier.log_snr)
    return Posterior(
        x_t_weight=later.alpha / earlier.alpha * (earlier.sigma / later.sigma) ** 2,
        x_0_weight=earlier.alpha * lost,
        variance=earlier.sigma**2 * lost,
        beta=later.sigma**2 * lost,
    )
