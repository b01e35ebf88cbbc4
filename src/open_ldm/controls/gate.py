"""gamma(t): how strongly a control condition acts at time t (docs/method.md section 1; arXiv 2411.03177).

t = 1 is pure noise, t = 0 is data. A gate that is 0 at t = 1 keeps a control from deciding *what* the picture shows.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config


class ConstantGate(Config):
    """gamma = 1 at all times: the entangled baseline, and the default of high-level controls."""

    kind: Literal["constant"] = "constant"


class PowerCosineGate(Config):
    """gamma_alpha(t) = (1 - cos(pi (1 - t)^alpha)) / 2: exactly 0 at noise, 1 at data, later and steeper for larger alpha.

    Not verified against the paper: the form, and alpha = 8 for the original size, are reconstructed, not read in its text.
    """

    kind: Literal["power_cosine"] = "power_cosine"
    alpha: float = Field(default=8.0, gt=0)


class CosinePowerGate(Config):
    """gamma(t) = ((1 + cos(pi t)) / 2)^alpha: the same ends with a gentler start."""

    kind: Literal["cosine_power"] = "cosine_power"
    alpha: float = Field(default=1.0, gt=0)


GateConfig = Annotated[ConstantGate | PowerCosineGate | CosinePowerGate, Field(discriminator="kind")]


def gamma(gate: ConstantGate | PowerCosineGate | CosinePowerGate, t: Tensor) -> Tensor:
    """Compute gamma(t).

    Args:
        gate: The form of the gate.
        t: Times in [0, 1], of any shape.

    Returns:
        gamma(t) in [0, 1], in the shape and dtype of `t`; exactly 0 at t = 1 unless the gate is constant.
    """
    match gate:
        case ConstantGate():
            return torch.ones_like(t)
        case PowerCosineGate(alpha=alpha):
            return (1 - torch.cos(math.pi * (1 - t) ** alpha)) / 2
        case CosinePowerGate(alpha=alpha):
            # cos(pi) rounds to a number slightly above -1 in float32; the mask keeps gamma(1) = 0 exact.
            return ((1 + torch.cos(math.pi * t)) / 2).clamp(0, 1).masked_fill(t >= 1, 0.0) ** alpha
