"""How much attention image tokens give to each context token, read from the attentions that a denoiser declares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from open_ldm.denoisers.base import ContextAttention, Denoiser


class AttentionProbe:
    """The attention to the context in the forward passes of one `probe_attention`.

    Attributes:
        shares: One tensor [B, L] for every attention to the context, in the order of computation: the share of the image
            tokens' attention that each context token gets, averaged over heads and image tokens. In cross-attention the shares
            of a picture sum to 1, or to 0 where its mask is empty; in joint attention the rest goes to the image.
    """

    def __init__(self, length: int, attentions: int) -> None:
        self.shares: list[Tensor] = []
        self._length = length
        self._counts = [0] * attentions

    def record(self, index: int, declared: ContextAttention, weights: Tensor) -> None:
        """Add the weights [B, heads, queries, keys] of the attention of this index."""
        self._counts[index] += 1
        self.shares.append(declared.image_to_context(weights, self._length).mean(dim=(1, 2)))

    def check_complete(self) -> None:
        """Raise RuntimeError unless every declared attention was recorded, each equally often."""
        if min(self._counts) == 0 or len(set(self._counts)) > 1:
            seen = sum(count > 0 for count in self._counts)
            raise RuntimeError(
                f"the attention probe recorded {seen} of the denoiser's {len(self._counts)} attentions to the context, these"
                f" {len(self.shares)} times; needed: every attention, all equally often"
            )


@contextmanager
def probe_attention(denoiser: Denoiser, length: int) -> Iterator[AttentionProbe]:
    """Record the attention to the context in every forward pass of a denoiser within the `with` block.

    The denoiser's result does not change: the weights are computed beside the attention's own kernel. Regions under
    `torch.compile` run without it for as long, so that a compiled denoiser, or one with compiled blocks, is recorded too.

    Args:
        denoiser: The network; its `context_attentions` say what is recorded.
        length: Number L of context tokens of each picture.

    Yields:
        The probe, which fills as the denoiser runs.

    Raises:
        ValueError: The denoiser declares no attention to the context.
        RuntimeError: At the end, when the denoiser did not run or some of its attentions were not recorded.
    """
    declared = denoiser.context_attentions()
    if not declared:
        raise ValueError(
            f"this {type(denoiser).__name__} has no attention to the context; needed: one built with a context slot"
        )
    probe = AttentionProbe(length, len(declared))
    try:
        for index, each in enumerate(declared):
            each.attention.on_weights = partial(probe.record, index, each)
        with torch.compiler.set_stance("force_eager"):
            yield probe
    finally:
        for each in declared:
            each.attention.on_weights = None
    probe.check_complete()
