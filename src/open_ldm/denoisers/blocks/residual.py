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
        """Build the block.

        Args:
            inputs: Channels C of its input.
            outputs: Channels C' of its output.
            modulation: Width M of the modulation.
            groups: Groups of both norms, which must divide C and C'.
            adaptive_norm: How the modulation acts.
        """
        super().__init__()
        self.adaptive_norm = adaptive_norm
        self.norm_1 = nn.GroupNorm(groups, inputs, EPSILON)
        self.conv_1 = Conv2d(inputs, outputs)
        parts = 2 if adaptive_norm == "scale_shift" else 1
        self.modulation = Linear(modulation, parts * outputs, parts=parts)
        self.norm_2 = nn.GroupNorm(groups, outputs, EPSILON)
        self.conv_2 = Conv2d(outputs, outputs)
        self.skip = Pointwise(inputs, outputs) if inputs != outputs else None
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, vector: Tensor, dtype: torch.dtype) -> Tensor:
        """Apply the block.

        Args:
            x: Feature map [B, C, H, W], float32.
            vector: The activated modulation [B, M], float32.
            dtype: Dtype of the convolutions.

        Returns:
            [B, C', H, W], float32.
        """
        vectors = self.modulation(vector)[:, :, None, None]
        h = self.conv_1(F.silu(self.norm_1(x)).to(dtype))  # [B, C', H, W]
        if self.adaptive_norm == "shift":
            h = self.norm_2(h + vectors)
        else:
            scale, shift = vectors.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_2(h.float()), 1 + scale)
        skipped = x if self.skip is None else self.skip(x.to(dtype)).float()
        return torch.add(skipped, self.conv_2(F.silu(h).to(dtype)))
