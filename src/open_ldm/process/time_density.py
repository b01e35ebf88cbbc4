"""The distribution of the training times: t = F^-1(u), a pure function of a uniform random number u."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config

_DRAW_STEP = 2.0**-24
"""Spacing of uniform float32 random numbers."""


class UniformTimes(Config):
    """t uniform on (0, 1), or on the steps 1/N..1 of a discrete schedule."""

    kind: Literal["uniform"] = "uniform"


class LogitNormalTimes(Config):
    """t = 1 / (1 + exp(-z)), z ~ N(mean, std^2): more of the middle (Stable Diffusion 3, arXiv 2403.03206, eq. 19)."""

    kind: Literal["logit_normal"] = "logit_normal"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)


TimeDensityConfig = Annotated[UniformTimes | LogitNormalTimes, Field(discriminator="kind")]


def times(config: TimeDensityConfig, u: Tensor, discrete_steps: int | None = None) -> Tensor:
    """Compute the times that uniform random numbers stand for: t = F^-1(u).

    Args:
        config: The distribution of the times.
        u: Uniform random numbers in [0, 1) of any shape (`seeds.uniform`).
        discrete_steps: Number N of steps of a discrete schedule; None for a continuous one.

    Returns:
        Times in the shape and dtype of `u`. For a continuous schedule 2^-24 <= t <= 1 - 2^-24. For a discrete one t is
        rounded up to the next of 1/N, 2/N, ..., 1, so that a uniform distribution hits each of the N steps equally often.
    """
    # The middle of the cell that a float32 random number stands for: never 0 or 1, and unbiased.
    inside = u.to(torch.float64) + _DRAW_STEP / 2
    match config:
        case UniformTimes():
            t = inside
        case LogitNormalTimes(mean=mean, std=std):
            t = torch.sigmoid(mean + std * torch.special.ndtri(inside))
    t = t.clamp(_DRAW_STEP, 1 - _DRAW_STEP)
    if discrete_steps is not None:
        t = torch.ceil(t * discrete_steps) / discrete_steps
    return t.to(u.dtype)
