"""Attention: one function picks the kernel by device, dtype and length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LONGEST_WRITTEN_OUT = {torch.bfloat16: 1024, torch.float32: 512}
"""Tokens up to which the written-out product beats torch's CPU kernel, forward and backward: 1.7 to 5 times for 80 to 512
tokens, since that kernel leaves the fast matrix products unused; the memory of [T, L] logits sets the bound in bf16."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + bias) v for q [B, heads, T, head_dim] and k, v [B, heads, L, head_dim].

    `mask` bool [B, L]: False places of k are not attended; a row without any place gives zeros.
    `bias` [1 or B, heads, T, L], of q's dtype. Returns [B, heads, T, head_dim].
    """
    if mask is not None:
        empty = ~mask.any(dim=1)
        # A softmax over nothing is 0 / 0: an empty row sees every place, and at each of them a value of zero.
        v = v.masked_fill(empty[:, None, None, None], 0.0)
        mask = mask | empty[:, None]
    if _written_out_is_faster(q, k, bias):
        return _attend_written_out(q, k, v, mask, bias)
    added = None if mask is None else mask[:, None, None, :]
    if bias is not None:
        added = bias if added is None else bias.masked_fill(~added, float("-inf"))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added)


def _written_out_is_faster(q: Tensor, k: Tensor, bias: Tensor | None) -> bool:
    if q.device.type != "cpu":
        return False
    if bias is not None and bias.requires_grad:
        return True  # torch's kernel gives a bias no gradient: torch would write it out too, in more passes
    # Without AVX-512 there are no fast products to leave unused: torch's kernel is as fast in float32, twice in bf16.
    narrow = torch.backends.cpu.get_cpu_capability() == "AVX2"
    return not narrow and k.shape[-2] <= LONGEST_WRITTEN_OUT.get(q.dtype, 0)


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, heads, T, L]
    if bias is not None:
        logits += bias  # in place: fresh memory costs more than the addition
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], float("-inf"))
    attended: Tensor = logits.softmax(dim=-1) @ v
    return attended


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T, 3 D] laid out as q, k, v x heads x head_dim -> three of [B, heads, T, head_dim]."""
    B, T, _ = qkv.shape
    q, k, v = qkv.view(B, T, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, T, head_dim] -> [B, T, D]."""
    B, _, T, _ = x.shape
    return x.transpose(1, 2).reshape(B, T, -1)
