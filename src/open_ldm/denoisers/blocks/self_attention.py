"""Self-attention: tokens are queries, keys and values of one another."""

from __future__ import annotations

from torch import Tensor, nn

from open_ldm.denoisers.blocks.attention import Attention, merge_heads, split_heads
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.rms_norm import QkNorm, head_norm


class SelfAttention(nn.Module):
    """Multi-head self-attention with q, k, v from one linear layer (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True, qk_norm: QkNorm = "none") -> None:
        """Build the layer.

        Args:
            width: Width D of the tokens; the heads must divide it.
            heads: Number of attention heads.
            qkv_bias: Whether q, k and v have a bias; the projection always has one.
            qk_norm: Norm of queries and keys, per head.
        """
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=qkv_bias, parts=3)
        self.norm_q = head_norm(qk_norm, width, heads)
        self.norm_k = head_norm(qk_norm, width, heads)
        self.proj = Linear(width, width)
        self.attention = Attention()

    def forward(self, x: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Let every token attend to every token.

        Args:
            x: Tokens [B, T, D].
            mask: bool [B, T], False for tokens that are not attended; None attends all.
            bias: Added to the logits, [1 or B, heads, T, T] of x's dtype.

        Returns:
            [B, T, D].
        """
        q, k, v = split_heads(self.qkv(x), self.heads, parts=3)  # [B, heads, T, head_dim]
        projected: Tensor = self.proj(merge_heads(self.attention(self.norm_q(q), self.norm_k(k), v, mask, bias)))  # [B, T, D]
        return projected
