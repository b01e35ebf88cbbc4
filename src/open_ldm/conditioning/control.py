"""Control conditions to modulation, each through a gate in time (docs/method.md section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from open_ldm.controls.base import Control
from open_ldm.controls.gate import gamma
from open_ldm.core.sinusoid import sinusoidal_features

FEATURES = 256


class ControlEmbedding(nn.Module):
    """Embedding gamma(t) E(phi) of a control: sinusoidal features of each number, Linear, SiLU, Linear.

    The last layer starts at zero, so an untrained control changes nothing.
    """

    def __init__(self, control: Control, width: int) -> None:
        super().__init__()
        self.gate = control.gate
        self.hidden = nn.Linear(FEATURES * control.numbers, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Tensor, keep: Tensor, t: Tensor) -> Tensor:
        """Embed values [B, n] with keep (bool [B]) at t [B]; gives [B, D], zero where dropped and where the gate is 0."""
        features = sinusoidal_features(values, FEATURES).flatten(1)
        embedded: Tensor = self.out(torch.nn.functional.silu(self.hidden(features)))
        # A product with 0, not a shortcut: an infinite embedding must not hide behind a closed gate.
        return embedded * (gamma(self.gate, t) * keep).unsqueeze(1)
