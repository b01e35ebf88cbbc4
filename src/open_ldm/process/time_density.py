"""Which times are trained on: t = F^-1(u) for a uniform draw u, so that a time is a pure function of its draw."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config

_DRAW_STEP = 2.0**-24
"""Spacing of uniform float32 draws."""


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
    """Times for uniform draws `u` in [0, 1) (`seeds.uniform`), same shape and dtype, always above 0.

    Continuous schedules (`discrete_steps` None): 2^-24 <= t <= 1 - 2^-24. Discrete ones: t is moved up to the next of
    1/N, 2/N, ..., 1, so that uniform draws hit each of the N steps equally often.
    """
    # The middle of the cell that a float32 draw stands for: never 0 or 1, and unbiased.
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
