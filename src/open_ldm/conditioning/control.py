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


class GatedEmbedding(nn.Module):
    """What the embeddings of all controls share: gamma(u), where u is the time on the gate's clock under `schedule`.

    Without a schedule u is t, as under the reference table.
    """

    def __init__(self, control: Control, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.gate = control.gate
        self.schedule = schedule

    def gate_time(self, t: Tensor) -> Tensor:
        """Compute the times u [B] that the gate reads at times t [B]."""
        if self.schedule is None or isinstance(self.gate, ConstantGate) or self.gate.clock == "time":
            return t
        return reference_time(self.schedule, t)


class ControlEmbedding(GatedEmbedding):
    """Embedding gamma(u) E(phi) of the numbers of a control: sinusoidal features of each number, Linear, SiLU, Linear.

    The last layer starts at zero, so an untrained control changes nothing.
    """

    def __init__(self, control: Control, width: int, schedule: Schedule | None = None) -> None:
        super().__init__(control, schedule)
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


class CategoryEmbedding(GatedEmbedding):
    """Embedding gamma(u) E(k) of a category k: a row of a table, SiLU, Linear; a last row, the null row, stands for none.

    The Linear starts at zero, so an untrained control changes nothing. Without it, in a table that starts at zero, an update
    would move the embedding by one learning rate, many times less than it moves that of numbers.
    """

    def __init__(self, control: Control, width: int, schedule: Schedule | None = None) -> None:
        super().__init__(control, schedule)
        self.null = control.categories or 0
        self.table = nn.Embedding(self.null + 1, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Tensor, keep: Tensor, t: Tensor) -> Tensor:
        """Embed indices [B, 1] with keep (bool [B]) at t [B]; gives [B, D], zero where the gate is 0.

        A dropped category and NaN, which is no value, take the null row.
        """
        index = values[:, 0]
        kept = keep & ~index.isnan()
        rows = self.table(torch.where(kept, index.nan_to_num().long(), self.null))
        embedded: Tensor = self.out(torch.nn.functional.silu(rows))
        return embedded * gamma(self.gate, self.gate_time(t)).unsqueeze(1)


def embed_control(control: Control, width: int, schedule: Schedule | None = None) -> ControlEmbedding | CategoryEmbedding:
    """Build the embedding of a control: a table where it has categories, else features of its numbers."""
    kind = ControlEmbedding if control.categories is None else CategoryEmbedding
    return kind(control, width, schedule)
