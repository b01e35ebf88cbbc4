"""Showing pictures of any number of channels as RGB, by one stated rule."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from torch import Tensor


def colours_of(channels: int) -> Tensor:
    """Return colours float [channels, 3] in [0, 1]: channel c has the hue c / channels of the colour wheel, red first."""
    return torch.tensor([colorsys.hsv_to_rgb(channel / channels, 1.0, 1.0) for channel in range(channels)])


def as_shown(pixels: Tensor, display: Sequence[int] | None = None) -> Tensor:
    """Convert pixels to what people are shown.

    Without `display` one channel is grey and three are RGB; of any other number each channel has its own colour
    (`colours_of`), and the colours are added and clamped at 255.

    Args:
        pixels: Pixels uint8 [..., C, H, W], or uint16, which is divided by 257.
        display: The channels that are shown as red, green and blue.

    Returns:
        Pixels uint8 [..., 3, H, W], or [..., 1, H, W] for one channel.
    """
    if pixels.dtype == torch.uint16:
        pixels = ((pixels.to(torch.int32) + 128) // 257).to(torch.uint8)
    channels = pixels.shape[-3]
    if display is not None:
        return pixels[..., list(display), :, :]
    if channels in (1, 3):
        return pixels
    summed = torch.einsum("...chw,cr->...rhw", pixels.float(), colours_of(channels).to(pixels.device))
    return summed.clamp(max=255).round().to(torch.uint8)
