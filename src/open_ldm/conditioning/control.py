"""Control conditions to modulation, each through a gate in time (docs/method.md section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from open_ldm.controls.base import Control
from open_ldm.controls.gate import ConstantGate, gamma
from open_ldm.core.sinusoid import sinusoidal_features
from open_ldm.process.reference_clock import reference_time
from open_ldm.process.schedules import Schedule

FEATURES = 256


class ControlEmbedding(nn.Module):
    """Embedding gamma(u) E(phi) of a control: sinusoidal features of each number, Linear, SiLU, Linear.

    The last layer starts at zero, so an untrained control changes nothing. u is the time on the gate's clock under `schedule`;
    without one it is t, as under the reference table.
    """

    def __init__(self, control: Control, width: int, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.gate = control.gate
        self.schedule = schedule
        self.hidden = nn.Linear(FEATURES * control.numbers, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Tensor, keep: Tensor, t: Tensor) -> Tensor:
        """Embed values [B, n] with keep (bool [B]) at t [B]; gives [B, D], zero where dropped and where the gate is 0.

        A row with NaN is unknown, and counts as dropped.
        """
        keep = keep & ~values.isnan().any(dim=1)
        features = sinusoidal_features(values.nan_to_num(), FEATURES).flatten(1)
        embedded: Tensor = self.out(torch.nn.functional.silu(self.hidden(features)))
        # A product with 0, not a shortcut: an infinite embedding must not hide behind a closed gate.
        return embedded * (gamma(self.gate, self.gate_time(t)) * keep).unsqueeze(1)

    def gate_time(self, t: Tensor) -> Tensor:
        """Compute the times u [B] that the gate reads at times t [B]."""
        if self.schedule is None or isinstance(self.gate, ConstantGate) or self.gate.clock == "time":
            return t
        return reference_time(self.schedule, t)
