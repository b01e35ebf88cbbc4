"""The UNet's residual block: two convolutions, with the modulation between them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.convolution import Conv2d, Pointwise
from open_ldm.denoisers.blocks.linear import Linear

AdaptiveNorm = Literal["shift", "scale_shift"]

EPSILON = 1e-5


class ResidualBlock(nn.Module):
    """skip(x) + conv(SiLU(norm(conv(SiLU(norm(x))), modulation))), starting as skip(x): the last convolution is zero.

    `shift`: the modulation is added before the second norm (latent diffusion). `scale_shift`: norm(h) (1 + scale) + shift
    (AdaGN, Dhariwal & Nichol 2021). `skip` is the identity, or a 1x1 convolution where the channels change.
    """

    def __init__(self, inputs: int, outputs: int, modulation: int, groups: int, adaptive_norm: AdaptiveNorm) -> None:
        super().__init__()
        self.adaptive_norm = adaptive_norm
        self.norm_1 = nn.GroupNorm(groups, inputs, EPSILON)
        self.conv_1 = Conv2d(inputs, outputs)
        self.modulation = Linear(modulation, outputs * (2 if adaptive_norm == "scale_shift" else 1))
        self.norm_2 = nn.GroupNorm(groups, outputs, EPSILON)
        self.conv_2 = Conv2d(outputs, outputs)
        self.skip = Pointwise(inputs, outputs) if inputs != outputs else None
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, vector: Tensor, dtype: torch.dtype) -> Tensor:
        """x [B, C, H, W], activated modulation [B, M] -> [B, C', H, W]; all float32, convolutions in `dtype`."""
        vectors = self.modulation(vector)[:, :, None, None]
        h = self.conv_1(F.silu(self.norm_1(x)).to(dtype))  # [B, C', H, W]
        if self.adaptive_norm == "shift":
            h = self.norm_2(h + vectors)
        else:
            scale, shift = vectors.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_2(h.float()), 1 + scale)
        kept = x if self.skip is None else self.skip(x.to(dtype)).float()
        return torch.add(kept, self.conv_2(F.silu(h).to(dtype)))
