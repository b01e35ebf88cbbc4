"""The UNet's transformer over the places of a feature map: self-attention, cross-attention to the context, gated MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.attention import attend, merge_heads, split_heads
from open_ldm.denoisers.blocks.convolution import Pointwise
from open_ldm.denoisers.blocks.linear import Linear

EPSILON = 1e-6


class SelfAttention(nn.Module):
    """Multi-head attention with fused q, k, v without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = split_heads(self.qkv(x), self.heads)
        out: Tensor = self.proj(merge_heads(attend(q, k, v)))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of the places to the context; q and fused k, v without bias."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(width, width, bias=False)
        self.kv = Linear(context_dim, 2 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, D], context [B, L, context_dim], mask bool [B, L] or None -> [B, T, D]."""
        B, T, D = x.shape
        q = self.q(x).view(B, T, self.heads, -1).transpose(1, 2)  # [B, heads, T, D / heads]
        k, v = self.kv(context).view(B, -1, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj(merge_heads(attend(q, k, v, mask)))
        return out


class GatedMlp(nn.Module):
    """Linear, GEGLU, Linear with four times the width inside: value GELU(gate), exact GELU (Shazeer 2020)."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = Linear(width, 2 * ratio * width)
        self.fc2 = Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        value, gate = self.fc1(x).chunk(2, dim=-1)  # [B, T, 4 D]
        out: Tensor = self.fc2(value * F.gelu(gate))
        return out


class TransformerBlock(nn.Module):
    """x += SelfAttention(norm x); x += CrossAttention(norm x, context), where there is a context; x += MLP(norm x)."""

    def __init__(self, width: int, heads: int, context_dim: int | None) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads)
        if context_dim is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.cross_attention = CrossAttention(width, heads, context_dim)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = GatedMlp(width)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """x [B, T, D] float32, context [B, L, context_dim] -> [B, T, D] float32."""
        x = x + self.self_attention(self.norm_self(x).to(dtype))
        if context is not None:
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
        """x [B, C, H, W] float32, context [B, L, context_dim] -> [B, C, H, W] float32."""
        tokens = self.proj_in(self.norm(x).to(dtype)).flatten(2).transpose(1, 2).float()  # [B, H W, C]
        for block in self.blocks:
            tokens = block(tokens, context, mask, dtype)
        maps = tokens.to(dtype).transpose(1, 2).unflatten(2, x.shape[2:])  # [B, C, H, W]
        return torch.add(x, self.proj_out(maps))
