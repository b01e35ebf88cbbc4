"""What a text encoder gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TextTokens:
    """Captions as an encoder leaves them, before padding.

    `tokens`: features [B, L, D] of a frozen encoder, or word ids [B, L] (long) of an encoder that learns with the model.
    `mask` bool [B, L]: True where a token belongs to the caption. `pooled` [B, P]: one vector per caption, if there is one.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None
