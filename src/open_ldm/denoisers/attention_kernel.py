"""Which kernel computes the attention of a network, seen on its first calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from open_ldm.denoisers.blocks.attention import Attention, added_to_logits, is_written_out

_NAMES = {
    SDPBackend.MATH: "torch's products and softmax",
    SDPBackend.FLASH_ATTENTION: "torch's flash kernel",
    SDPBackend.EFFICIENT_ATTENTION: "torch's memory-efficient kernel",
    SDPBackend.CUDNN_ATTENTION: "cuDNN's kernel",
}


def kernel_of(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    longest: Mapping[torch.dtype, int] | None = None,
) -> str:
    """Name the kernel by which `attend` computes; arguments as there."""
    if is_written_out(q, k, bias, longest):
        return "written out"
    choice = torch._fused_sdp_choice(q, k, v, added_to_logits(mask, bias))
    return _NAMES.get(SDPBackend(choice), f"torch's kernel {choice}")


class AttentionWatch:
    """Looks at the attentions of a network until it is closed.

    Attributes:
        seen: What was seen: a kernel, and the numbers of queries and keys.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        self.seen: dict[str, None] = {}
        attentions = [module for module in denoiser.modules() if isinstance(module, Attention)]
        self._hooks = [each.register_forward_pre_hook(self._look, with_kwargs=True) for each in attentions]

    def close(self) -> None:
        """Look no more."""
        while self._hooks:
            self._hooks.pop().remove()

    @property
    def sentence(self) -> str:
        """All that was seen, in one line; empty for a network without attention."""
        return f"attention: {'; '.join(self.seen)}" if self.seen else ""

    def _look(self, module: Attention, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        q, k, *_ = given
        added = " with a bias" if len(given) > 4 and given[4] is not None else ""
        kernel = kernel_of(*given, **{**named, "longest": module.longest})
        self.seen[f"{kernel} ({q.shape[2]} x {k.shape[2]}{added})"] = None
