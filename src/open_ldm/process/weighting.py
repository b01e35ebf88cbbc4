"""The weight of each time in the loss: a factor on the squared error of the predicted quantity."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.process.prediction import PredictionKind
from open_ldm.process.schedules import NoiseLevel


class UniformWeighting(Config):
    """Weight 1 on the error of what the network predicts."""

    kind: Literal["uniform"] = "uniform"


class MinSnrWeighting(Config):
    """Weight min(snr, gamma) on the error of x_0 (Hang et al. 2023, arXiv 2303.09556); gamma = 5 for MDTv2."""

    kind: Literal["min_snr"] = "min_snr"
    gamma: float = Field(default=5.0, gt=0)


WeightingConfig = Annotated[UniformWeighting | MinSnrWeighting, Field(discriminator="kind")]


def weight(config: WeightingConfig, kind: PredictionKind, level: NoiseLevel) -> Tensor:
    """Compute the weight on the squared error of a prediction of this kind at `level`, in its shape; finite and >= 0."""
    match config:
        case UniformWeighting():
            return torch.ones_like(level.alpha)
        case MinSnrWeighting(gamma=gamma):
            return _min_snr(gamma, kind, level)


def _min_snr(gamma: float, kind: PredictionKind, level: NoiseLevel) -> Tensor:
    """Express min(snr, gamma) |x_0 error|^2 in the error of `kind`.

    At a given x_t an error e of x_0 is an error -(alpha / sigma) e of eps, -((alpha^2 + sigma^2) / sigma) e of v and
    -((alpha + sigma) / sigma) e of the velocity. Where alpha^2 + sigma^2 = 1, v weighs min(snr, gamma) / (snr + 1).
    """
    alpha, sigma = level.alpha, level.sigma
    match kind:
        case "eps":
            # min(snr, gamma) / snr, written so that snr = 0 and snr = inf are ordinary points.
            return (gamma / level.snr).clamp(max=1.0)
        case "x_0":
            return level.snr.clamp(max=gamma)
        case "v":
            return level.snr.clamp(max=gamma) * (sigma / (alpha**2 + sigma**2)) ** 2
        case "velocity":
            return level.snr.clamp(max=gamma) * (sigma / (alpha + sigma)) ** 2
