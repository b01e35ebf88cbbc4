"""The output of a text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextTokens:
    """Encoded captions before padding.

    Attributes:
        tokens: Features [B, L, D] of a frozen encoder, or word ids [B, L] (int64) of an encoder that learns with the model.
        mask: Bool [B, L]; True where a token belongs to the caption.
        pooled: One vector per caption [B, P], if the encoder gives one.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> TextTokens:
        """Return the captions with `change` applied to every tensor."""
        return TextTokens(change(self.tokens), change(self.mask), None if self.pooled is None else change(self.pooled))

    def to(self, device: torch.device) -> TextTokens:
        """Move every tensor."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> TextTokens:
        """Return captions start to stop - 1."""
        return self.map(lambda tensor: tensor[start:stop])

    @staticmethod
    def joined(texts: Sequence[TextTokens]) -> TextTokens:
        """Join the captions of several, one after the other."""
        pooled = [text.pooled for text in texts if text.pooled is not None]
        return TextTokens(
            torch.cat([text.tokens for text in texts]),
            torch.cat([text.mask for text in texts]),
            torch.cat(pooled) if pooled else None,
        )
