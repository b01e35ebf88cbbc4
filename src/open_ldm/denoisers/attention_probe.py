"""What image tokens attend to in the context, read off while a denoiser runs; no network knows that it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from open_ldm.denoisers.base import Denoiser
from open_ldm.denoisers.blocks import cross_attention, spatial_transformer
from open_ldm.denoisers.mmdit import MMDiT

_CROSS = (cross_attention.CrossAttention, spatial_transformer.CrossAttention)


@dataclass(frozen=True)
class Watched:
    """One attention of image tokens to the context: share of their attention that each place gets, [B, L].

    Averaged over heads and image tokens. In cross-attention the shares of a picture sum to 1; in joint attention the rest is
    the image's.
    """

    shares: Tensor


@contextmanager
def watching(denoiser: Denoiser, length: int) -> Iterator[list[Watched]]:
    """While it lasts, every attention to the context of `length` places is added to the list, in the order of the blocks."""
    seen: list[Watched] = []
    crosses = [module for module in denoiser.modules() if isinstance(module, _CROSS)]
    watch = _Watch(seen, length, joint=not crosses, context_first=isinstance(denoiser, MMDiT))
    with ExitStack() as stack:
        for module in crosses:
            stack.callback(module.register_forward_pre_hook(watch.enter).remove)
            stack.callback(module.register_forward_hook(watch.leave).remove)
        stack.enter_context(watch)
        yield seen


class _Watch(TorchFunctionMode):
    """Sees the weights of every attention: the softmax of the written-out product, or what torch's kernel would have used."""

    def __init__(self, seen: list[Watched], length: int, joint: bool, context_first: bool) -> None:
        super().__init__()
        self.seen, self.length, self.joint, self.context_first = seen, length, joint, context_first
        self.asks_context = joint

    def enter(self, *_: Any) -> None:
        """A cross-attention begins."""
        self.asks_context = True

    def leave(self, *_: Any) -> None:
        """It ends."""
        self.asks_context = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.asks_context:
            if func is F.scaled_dot_product_attention:
                self._add(_weights(args[0], args[1], (kwargs or {}).get("attn_mask")))
            elif func is Tensor.softmax and out.ndim == 4:
                self._add(out)
        return out

    def _add(self, weights: Tensor) -> None:
        """weights [B, heads, asking, asked]; in joint attention both hold the context, before the image or behind it."""
        weights = weights.detach().float()
        if self.joint:
            front = slice(0, self.length), slice(self.length, None)
            back = slice(-self.length, None), slice(0, -self.length)
            context, image = front if self.context_first else back
            weights = weights[:, :, image, context]
        self.seen.append(Watched(weights.mean(dim=(1, 2))))


def _weights(q: Tensor, k: Tensor, added: Tensor | None) -> Tensor:
    logits: Tensor = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if added is not None:
        logits = logits.masked_fill(~added, float("-inf")) if added.dtype == torch.bool else logits + added
    return logits.softmax(dim=-1)
