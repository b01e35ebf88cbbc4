"""Cross-attention: image tokens ask, context tokens answer."""

from __future__ import annotations

from torch import Tensor, nn

from open_ldm.denoisers.blocks.attention import attend, merge_heads
from open_ldm.denoisers.blocks.linear import Linear


class CrossAttention(nn.Module):
    """Multi-head attention with biased q of the image, and fused, biased k, v of the context, all of width D."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, D], context [B, L, D], mask bool [B, L] or None -> [B, T, D].

        A picture whose mask is empty attends to nothing and gets the projection's bias, whatever its context holds.
        """
        B, L, D = context.shape
        q = self.q(x).view(B, -1, self.heads, D // self.heads).transpose(1, 2)  # [B, heads, T, head_dim]
        k, v = self.kv(context).view(B, L, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, L, head_dim]
        out: Tensor = self.proj(merge_heads(attend(q, k, v, mask)))
        return out
