"""gamma: how strongly a control condition acts along the way (docs/method.md section 1; arXiv 2411.03177).

A gate reads a time u in [0, 1]: 1 is pure noise, 0 is data. A gate that is 0 at u = 1 keeps a control from deciding *what* the
picture shows. Its `clock` says which time it reads: that of the noise level, or the bare t (process/reference_clock.py).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config

Clock = Literal["noise_level", "time"]
"""What a gate reads. `noise_level`: the time at which the reference table has the sample's SNR, so that one alpha means one
noise under every schedule, prediction and resolution. `time`: the bare t, another noise under another schedule."""


class ConstantGate(Config):
    """gamma = 1 throughout: the entangled baseline, and the default of high-level controls."""

    kind: Literal["constant"] = "constant"


class PowerCosineGate(Config):
    """gamma_alpha(u) = (1 - cos(pi (1 - u)^alpha)) / 2: exactly 0 at noise, 1 at data, later and steeper for larger alpha.

    Not verified against the paper: the form, and alpha = 8 for the original size, are reconstructed, not read in its text. The
    default clock assumes that its alpha is stated for a DDPM table, since its captions name DDIM throughout.
    """

    kind: Literal["power_cosine"] = "power_cosine"
    alpha: float = Field(default=8.0, gt=0)
    clock: Clock = "noise_level"


class CosinePowerGate(Config):
    """gamma(u) = ((1 + cos(pi u)) / 2)^alpha: the same ends with a gentler start."""

    kind: Literal["cosine_power"] = "cosine_power"
    alpha: float = Field(default=1.0, gt=0)
    clock: Clock = "noise_level"


Gate = ConstantGate | PowerCosineGate | CosinePowerGate
GateConfig = Annotated[Gate, Field(discriminator="kind")]


def gamma(gate: Gate, u: Tensor) -> Tensor:
    """Compute gamma(u).

    Args:
        gate: The form of the gate.
        u: Times on the gate's own clock in [0, 1], of any shape.

    Returns:
        gamma(u) in [0, 1], in the shape and dtype of `u`; exactly 0 at u = 1 unless the gate is constant.
    """
    match gate:
        case ConstantGate():
            return torch.ones_like(u)
        case PowerCosineGate(alpha=alpha):
            return (1 - torch.cos(math.pi * (1 - u) ** alpha)) / 2
        case CosinePowerGate(alpha=alpha):
            # cos(pi) rounds to a number slightly above -1 in float32; the mask keeps gamma(1) = 0 exact.
            return ((1 + torch.cos(math.pi * u)) / 2).clamp(0, 1).masked_fill(u >= 1, 0.0) ** alpha
