"""Pictures of 3 channels for autoencoders of another number: one stated rule for grey."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: luma of ITU-R BT.601, as JPEG and Pillow's "L" use it."""


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images [B, N, H, W] with the channels an autoencoder reads or a viewer shows.

    N = `channels`: as they are. 3 -> 1: luma, 0.299 R + 0.587 G + 0.114 B. 1 -> 3: repeated. Anything else has no rule:
    raises ConfigError.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if (given, channels) == (3, 1):
        weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
        return (images * weights).sum(dim=1, keepdim=True)
    if (given, channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    raise ConfigError(
        f"pictures of {given} channels for an autoencoder of {channels}",
        needed=f"{channels} channels, or pictures of 3 and an autoencoder of 1",
        fix=f"data.source.channels={channels} where the files have them; see docs/autoencoders.md",
    )
