"""Scaled dot-product attention between heads: the kernel is chosen in one function, and a probe can read the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST_WRITTEN_OUT = {torch.bfloat16: 1024, torch.float32: 512}
"""Keys up to which the written-out product is faster than torch's CPU kernel, forward and backward: 1.7 to 5 times for 80 to
512 tokens, since that kernel leaves the fast matrix products unused. The memory of the logits [T, L] sets the limit in bf16."""

# Without AVX-512 there are no fast products to leave unused: torch's kernel is as fast in float32, twice in bf16. Asked once,
# since torch.compile would leave its graph for the question.
_NARROW = torch.backends.cpu.get_cpu_capability() == "AVX2"


class Attention(nn.Module):
    """`attend` as a module without parameters, so that an attention probe can be set on it (denoisers/attention_probe.py).

    Attributes:
        on_weights: A function that gets the weights [B, heads, T, L] (float32) of every forward pass while a probe is set,
            else None. The weights are computed beside the kernel, whose result does not change.
        longest: As of `attend` (denoisers/attention_switch.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_weights: Callable[[Tensor], None] | None = None
        self.longest: Mapping[torch.dtype, int] | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """See `attend`."""
        if self.on_weights is not None:
            self.on_weights(attention_weights(q, k, mask, bias))
        return attend(q, k, v, mask, bias, self.longest)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    longest: Mapping[torch.dtype, int] | None = None,
) -> Tensor:
    """Compute softmax(q k^T / sqrt(head_dim) + bias) v (Vaswani et al. 2017, equation 1, per head).

    Args:
        q: Queries [B, heads, T, head_dim].
        k: Keys [B, heads, L, head_dim].
        v: Values [B, heads, L, head_dim].
        mask: bool [B, L], False for keys that are not attended; None attends all. A row without any key gives zeros.
        bias: Added to the logits, [1 or B, heads, T, L] of q's dtype.
        longest: On a CPU, the most keys for which it is computed as two products with a softmax between them, by format.
            None, or another format, is the usual choice (`LONGEST_WRITTEN_OUT`).

    Returns:
        [B, heads, T, head_dim] of q's dtype.
    """
    if mask is not None:
        empty = ~mask.any(dim=1)
        # A softmax over nothing is 0 / 0: an empty row attends to every key, each with a value of zero.
        v = v.masked_fill(empty[:, None, None, None], 0.0)
        mask = mask | empty[:, None]
    if is_written_out(q, k, bias, longest):
        return _attend_written_out(q, k, v, mask, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added_to_logits(mask, bias))


def added_to_logits(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """Return mask and bias, as of `attend`, as torch's kernels take them together."""
    added = None if mask is None else mask[:, None, None, :]
    if bias is None:
        return added
    return bias if added is None else bias.masked_fill(~added, float("-inf"))


@torch.no_grad()
def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Compute the weights softmax(q k^T / sqrt(head_dim) + bias) by which `attend` averages the values.

    They are computed in float32 and without gradient, whatever kernel and dtype `attend` uses.

    Args:
        q: Queries [B, heads, T, head_dim].
        k: Keys [B, heads, L, head_dim].
        mask: bool [B, L], False for keys that are not attended; None attends all. A row without any key has zero weights.
        bias: Added to the logits, [1 or B, heads, T, L].

    Returns:
        [B, heads, T, L], float32; sums over L are 1, or 0 for a row without any key.
    """
    logits = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
    if bias is not None:
        logits += bias
    masked = None if mask is None else ~mask[:, None, None, :]
    if masked is not None:
        logits = logits.masked_fill(masked, float("-inf"))
    weights: Tensor = logits.softmax(dim=-1)
    return weights if masked is None else weights.masked_fill(masked, 0.0)  # a row without any key is NaN until here


def is_written_out(q: Tensor, k: Tensor, bias: Tensor | None, longest: Mapping[torch.dtype, int] | None = None) -> bool:
    """Return whether `attend` computes two products with a softmax between them, which is faster here than torch's kernel."""
    if q.device.type != "cpu":
        return False
    if bias is not None and bias.requires_grad:
        return True  # torch's kernel gives a bias no gradient: torch would write it out too, in more passes
    if longest is not None and q.dtype in longest:
        return k.shape[-2] <= longest[q.dtype]
    return not _NARROW and k.shape[-2] <= LONGEST_WRITTEN_OUT.get(q.dtype, 0)


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, heads, T, L]
    if bias is not None:
        logits += bias  # in place: fresh memory costs more than the addition
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], float("-inf"))
    attended: Tensor = logits.softmax(dim=-1) @ v
    return attended


def split_heads(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """Split the output of a fused linear layer into its parts, each with heads.

    Args:
        x: [B, T, parts D], laid out as part x head x head_dim.
        heads: Number of heads.
        parts: How many tensors are fused: 3 for q, k, v; 2 for k, v.

    Returns:
        `parts` tensors [B, heads, T, head_dim].
    """
    B, T, _ = x.shape
    return x.view(B, T, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side: [B, heads, T, head_dim] -> [B, T, D]."""
    B, _, T, _ = x.shape
    return x.transpose(1, 2).reshape(B, T, -1)
