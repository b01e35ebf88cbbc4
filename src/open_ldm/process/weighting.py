"""The weight of each time in the loss: a factor on the squared error of the predicted quantity."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.process.prediction import PredictionKind, error_ratio
from open_ldm.process.schedules import NoiseLevel


class UniformWeighting(Config):
    """Weight 1 on the error of what the network predicts."""

    kind: Literal["uniform"] = "uniform"


class MinSnrWeighting(Config):
    """Weight min(snr, gamma) on the error of x_0 (Hang et al. 2023, arXiv 2303.09556); gamma = 5 for MDTv2."""

    kind: Literal["min_snr"] = "min_snr"
    gamma: float = Field(default=5.0, gt=0)


class ErrorOfWeighting(Config):
    """Weight 1 on the error of another kind of prediction than the network's own.

    A network that predicts clean latents under the loss of the velocity (`prediction: velocity`) need not carry the noise
    through its layers, which pays where a patch has as many numbers as a token (Li & He 2025, arXiv 2511.13720). The weight
    would be infinite where the network's own prediction says nothing about the other; `smallest`, their 0.05, is the least
    alpha and sigma that it is computed with.
    """

    kind: Literal["error_of"] = "error_of"
    prediction: PredictionKind
    smallest: float = Field(default=0.05, gt=0, le=1)


WeightingConfig = Annotated[UniformWeighting | MinSnrWeighting | ErrorOfWeighting, Field(discriminator="kind")]


def weight(config: WeightingConfig, kind: PredictionKind, level: NoiseLevel) -> Tensor:
    """Compute the weight on the squared error of a prediction of this kind at `level`, in its shape; finite and >= 0."""
    match config:
        case UniformWeighting():
            return torch.ones_like(level.alpha)
        case MinSnrWeighting(gamma=gamma) if kind == "eps":
            # min(snr, gamma) / snr, written so that snr = 0 and snr = inf are ordinary points.
            return (gamma / level.snr).clamp(max=1.0)
        case MinSnrWeighting(gamma=gamma):
            return level.snr.clamp(max=gamma) * error_ratio(kind, "x_0", level) ** 2
        case ErrorOfWeighting(prediction=wanted, smallest=smallest):
            held = NoiseLevel(level.alpha.clamp(min=smallest), level.sigma.clamp(min=smallest))
            return error_ratio(kind, wanted, held) ** 2
