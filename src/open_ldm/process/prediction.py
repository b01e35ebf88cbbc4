"""What a denoiser predicts, and exact conversions between the kinds.

All conversions hold for every alpha and sigma; none assumes alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from open_ldm.process.schedules import NoiseLevel

PredictionKind = Literal["eps", "x_0", "v", "velocity"]
"""eps: the noise. x_0: clean latents. v = alpha eps - sigma x_0 (Salimans & Ho 2022). velocity = eps - x_0."""


@dataclass(frozen=True)
class Denoised:
    """A denoiser's estimate of x_0 [B, C, H, W], whatever kind of prediction the network makes.

    `variance_fraction` [B, C, H, W], nominally in [-1, 1], says where a learned reverse variance lies between its two bounds
    (process/learned_variance.py); it is None for a denoiser that does not learn its variance.
    """

    x_0: Tensor
    variance_fraction: Tensor | None = None


def target(kind: PredictionKind, x_0: Tensor, eps: Tensor, level: NoiseLevel) -> Tensor:
    """Compute what a denoiser of this kind should output for `x_0` and `eps` [B, ...] at `level` [B]."""
    at = level.like(x_0)
    match kind:
        case "eps":
            return eps
        case "x_0":
            return x_0
        case "v":
            return at.alpha * eps - at.sigma * x_0
        case "velocity":
            return eps - x_0


def to_x_0(kind: PredictionKind, output: Tensor, x_t: Tensor, level: NoiseLevel) -> Tensor:
    """Convert a prediction to an estimate of x_0.

    eps: (x_t - sigma eps) / alpha.  v: (alpha x_t - sigma v) / (alpha^2 + sigma^2).
    velocity: (x_t - sigma u) / (alpha + sigma).
    Only eps is singular, at alpha = 0. Pure noise carries no information about x_0, so the result there is 0, the mean of
    the latents.

    Args:
        kind: The kind of prediction that `output` is.
        output: The network's prediction [B, ...].
        x_t: Noised latents [B, ...].
        level: Noise level [B] of `x_t`.

    Returns:
        x_0 [B, ...].
    """
    at = level.like(x_t)
    match kind:
        case "eps":
            return _ratio(x_t - at.sigma * output, at.alpha)
        case "x_0":
            return output
        case "v":
            return (at.alpha * x_t - at.sigma * output) / (at.alpha**2 + at.sigma**2)
        case "velocity":
            return (x_t - at.sigma * output) / (at.alpha + at.sigma)


def to_eps(kind: PredictionKind, output: Tensor, x_t: Tensor, level: NoiseLevel) -> Tensor:
    """Convert a prediction to an estimate of eps.

    x_0: (x_t - alpha x_0) / sigma.  v: (sigma x_t + alpha v) / (alpha^2 + sigma^2).
    velocity: (x_t + alpha u) / (alpha + sigma).
    Only x_0 is singular, at sigma = 0. Data without noise carry no information about eps, so the result there is 0, its mean.

    Args:
        kind: The kind of prediction that `output` is.
        output: The network's prediction [B, ...].
        x_t: Noised latents [B, ...].
        level: Noise level [B] of `x_t`.

    Returns:
        eps [B, ...].
    """
    at = level.like(x_t)
    match kind:
        case "eps":
            return output
        case "x_0":
            return _ratio(x_t - at.alpha * output, at.sigma)
        case "v":
            return (at.sigma * x_t + at.alpha * output) / (at.alpha**2 + at.sigma**2)
        case "velocity":
            return (x_t + at.alpha * output) / (at.alpha + at.sigma)


def error_ratio(kind: PredictionKind, wanted: PredictionKind, level: NoiseLevel) -> Tensor:
    """Compute how large an error of one kind of prediction is as an error of another kind, at the same x_t.

    An error e of x_0 is an error (alpha / sigma) e of eps, ((alpha^2 + sigma^2) / sigma) e of v and ((alpha + sigma) / sigma) e
    of the velocity, up to the sign.

    Args:
        kind: The kind of prediction that has the error.
        wanted: The kind in which it is told.
        level: Noise level of x_t.

    Returns:
        |error of `wanted`| / |error of `kind`|, >= 0, in the shape of `level`; 1 where both are the same kind. Infinite for
        an x_0 told as another kind at sigma = 0, and for an eps told as another kind at alpha = 0.
    """
    if kind == wanted:
        return torch.ones_like(level.alpha)
    return _share(wanted, level) / _share(kind, level)


def _share(kind: PredictionKind, level: NoiseLevel) -> Tensor:
    """d in |error of x_0| = (sigma / d) |error of this kind|."""
    alpha, sigma = level.alpha, level.sigma
    match kind:
        case "eps":
            return alpha
        case "x_0":
            return sigma
        case "v":
            return alpha**2 + sigma**2
        case "velocity":
            return alpha + sigma


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; the result is 0, with finite gradients, where the denominator is 0."""
    zero = denominator == 0
    return (numerator / denominator.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)
