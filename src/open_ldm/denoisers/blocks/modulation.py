"""Adaptive layer norm: shift, scale and gate from the modulation vector (adaLN-zero, Peebles & Xie 2023, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.activation import tanh_gelu
from open_ldm.denoisers.blocks.linear import Linear

EPSILON = 1e-6


class Modulation(nn.Module):
    """`count` vectors from the activated modulation. They start at zero, so that every block starts as the identity."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = Linear(width, count * width, parts=count)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        """Compute the vectors.

        The product is float32: it has one row per picture, and casting its matrix would cost more than multiplying by it.

        Args:
            vector: SiLU of the modulation, [B, D]; the caller applies it once for all blocks.

        Returns:
            `count` tensors [B, 1, D] of the vector's dtype.
        """
        vectors: Tensor = self.linear(vector.float()).to(vector.dtype)
        return vectors.unsqueeze(1).chunk(self.count, dim=-1)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Compute LayerNorm(x) (1 + scale) + shift (Peebles & Xie 2023, section 3.2).

    All of it is float32 and the result is rounded once. In bf16, where 1 + scale has 8 bits, a network's gradient would be up
    to 1.6 times as far from float32's as torch.autocast's is.

    Args:
        x: Tokens [B, T, D], of any dtype, such as the float32 residual stream.
        shift: [B, 1, D].
        scale: [B, 1, D].

    Returns:
        [B, T, D] of the dtype of `shift`.
    """
    normed = F.layer_norm(x.float(), x.shape[-1:], eps=EPSILON)
    return torch.addcmul(shift.float(), normed, 1 + scale.float()).to(shift.dtype)


class Mlp(nn.Module):
    """Linear, tanh-GELU, Linear with four times the width inside."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = Linear(width, ratio * width)
        self.fc2 = Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        hidden: Tensor = self.fc2(tanh_gelu(self.fc1(x)))
        return hidden


class FinalLayer(nn.Module):
    """Modulated norm, then tokens -> p p C numbers per patch. Starts at zero: an untrained network predicts zero."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, 2)
        self.linear = Linear(width, outputs)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Map tokens [B, T, D] to [B, T, outputs], given the activated modulation [B, D]."""
        shift, scale = self.modulation(vector)
        projected: Tensor = self.linear(modulated_norm(x, shift, scale))
        return projected
