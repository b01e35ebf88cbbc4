"""Cross-attention: image tokens are the queries, context tokens the keys and values."""

from __future__ import annotations

from torch import Tensor, nn

from open_ldm.denoisers.blocks.attention import Attention, merge_heads, split_heads
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.rms_norm import QkNorm, head_norm


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to a context, with k and v from one linear layer (Vaswani et al. 2017, section 3.2.3)."""

    def __init__(self, width: int, heads: int, context_dim: int, *, qkv_bias: bool = True, qk_norm: QkNorm = "none") -> None:
        """Build the layer.

        Args:
            width: Width D of the tokens; the heads must divide it.
            heads: Number of attention heads.
            context_dim: Width of the context tokens.
            qkv_bias: Whether q, k and v have a bias; the projection always has one.
            qk_norm: Norm of queries and keys, per head.
        """
        super().__init__()
        self.heads = heads
        self.q = Linear(width, width, bias=qkv_bias)
        self.kv = Linear(context_dim, 2 * width, bias=qkv_bias, parts=2)
        self.norm_q = head_norm(qk_norm, width, heads)
        self.norm_k = head_norm(qk_norm, width, heads)
        self.proj = Linear(width, width)
        self.attention = Attention()

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Let every token attend to the context.

        Args:
            x: Tokens [B, T, D].
            context: Context tokens [B, L, context_dim].
            mask: bool [B, L], False for context tokens that are not attended; None attends all.

        Returns:
            [B, T, D]. A picture whose mask is empty attends to nothing and gets the projection's bias.
        """
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, head_dim]
        k, v = split_heads(self.kv(context), self.heads, parts=2)  # [B, heads, L, head_dim]
        projected: Tensor = self.proj(merge_heads(self.attention(self.norm_q(q), self.norm_k(k), v, mask)))  # [B, T, D]
        return projected
