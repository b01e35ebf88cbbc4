"""RMS norm, and the norm of the queries and keys of attention heads."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6

QkNorm = Literal["none", "rms"]
"""What is done to queries and keys before their product: nothing, or an RMS norm over each head's numbers."""


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang & Sennrich 2019, equation 4); `weight` starts at one and is cast to
    x's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), EPSILON)


def head_norm(kind: QkNorm, width: int, heads: int) -> nn.Module:
    """Build the norm of queries or keys [B, heads, T, width / heads]; its weight is one for all heads.

    It bounds the logits of attention, which otherwise grow with the weights (Dehghani et al. 2023, arXiv 2302.05442, with
    LayerNorm; Esser et al. 2024, with this norm).
    """
    return RMSNorm(width // heads) if kind == "rms" else nn.Identity()
