"""The UNet's transformer over the positions of a feature map: self-attention, cross-attention to the context, gated MLP
(Rombach et al. 2022, section 3.3 and appendix E.2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.convolution import Pointwise
from open_ldm.denoisers.blocks.cross_attention import CrossAttention
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.self_attention import SelfAttention

EPSILON = 1e-6


class GatedMlp(nn.Module):
    """Linear, GEGLU, Linear with four times the width inside: value GELU(gate) with the exact GELU (Shazeer 2020)."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = Linear(width, 2 * ratio * width, parts=2)
        self.fc2 = Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        value, gate = self.fc1(x).chunk(2, dim=-1)  # [B, T, 4 D]
        out: Tensor = self.fc2(value * F.gelu(gate))
        return out


class TransformerBlock(nn.Module):
    """x += SelfAttention(norm x); x += CrossAttention(norm x, context), where there is a context; x += MLP(norm x)."""

    def __init__(self, width: int, heads: int, context_dim: int | None) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads, qkv_bias=False)
        self.cross_attention: CrossAttention | None = None
        if context_dim is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.cross_attention = CrossAttention(width, heads, context_dim, qkv_bias=False)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = GatedMlp(width)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Update the residual stream.

        Args:
            x: Tokens [B, T, D], float32.
            context: [B, L, context_dim]; None for a block without cross-attention.
            mask: bool [B, L], False for context tokens that are not attended; None attends all.
            dtype: Dtype of the matrix products.

        Returns:
            [B, T, D], float32.
        """
        x = x + self.self_attention(self.norm_self(x).to(dtype))
        if self.cross_attention is not None:
            x = x + self.cross_attention(self.norm_cross(x).to(dtype), context, mask)
        return torch.add(x, self.mlp(self.norm_mlp(x).to(dtype)))


class SpatialTransformer(nn.Module):
    """x + out(blocks(in(norm x))), starting as x: `out` is zero. `in` and `out` are 1x1 convolutions, held as matrices."""

    def __init__(self, channels: int, groups: int, heads: int, depth: int, context_dim: int | None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, EPSILON)
        self.proj_in = Pointwise(channels, channels)
        self.blocks = nn.ModuleList(TransformerBlock(channels, heads, context_dim) for _ in range(depth))
        self.proj_out = Pointwise(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Apply the blocks to the positions of a feature map.

        Args:
            x: Feature map [B, C, H, W], float32.
            context: [B, L, context_dim]; None for blocks without cross-attention.
            mask: bool [B, L], False for context tokens that are not attended; None attends all.
            dtype: Dtype of the matrix products.

        Returns:
            [B, C, H, W], float32.
        """
        tokens = self.proj_in(self.norm(x).to(dtype)).flatten(2).transpose(1, 2).float()  # [B, H W, C]
        for block in self.blocks:
            tokens = block(tokens, context, mask, dtype)
        maps = tokens.to(dtype).transpose(1, 2).unflatten(2, x.shape[2:])  # [B, C, H, W]
        return torch.add(x, self.proj_out(maps))
