"""The stated rule that fits pictures to an autoencoder with another number of channels: RGB to grey and back."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: luma of ITU-R BT.601, as JPEG and Pillow's "L" use it."""


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images to the number of channels that an autoencoder reads or a viewer shows.

    3 to 1 takes the luma, 0.299 R + 0.587 G + 0.114 B. 1 to 3 repeats the channel. An equal number changes nothing.

    Args:
        images: Images [B, N, H, W].
        channels: Number of channels of the result.

    Raises:
        ConfigError: No rule converts N channels to `channels`.
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
        f"pictures of {given} channels do not fit an autoencoder of {channels}",
        needed=f"pictures of {channels} channels, or RGB pictures and an autoencoder of 1 channel",
        fix=f"set data.source.channels={channels} where the files have them; see docs/autoencoders.md",
    )
