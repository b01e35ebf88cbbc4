"""Bringing pictures to a network's size: the rule matters, so each has a name that goes into the extractor's id."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

TENSORFLOW = "bilinear to {0}x{0} px as TensorFlow 1, corners at i * in / out, not antialiased"


def tensorflow_bilinear(values: Tensor, size_px: int) -> Tensor:
    """[B, C, H, W] -> [B, C, size_px, size_px] as TensorFlow 1's resize_bilinear: output i reads at i * in / out.

    torch's own reads at (i + 1/2) in / out - 1/2, which shifts the picture; published FID values rest on the former.
    """
    return _lines(_lines(values, size_px, dim=2), size_px, dim=3)


def _lines(values: Tensor, size: int, dim: int) -> Tensor:
    length = values.shape[dim]
    positions = torch.arange(size, device=values.device, dtype=torch.float32) * (length / size)
    low = positions.floor().long()
    high = (low + 1).clamp(max=length - 1)
    share = (positions - low).view(-1, *[1] * (values.ndim - 1 - dim))
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, high), share)


def antialiased(images: Tensor, size_px: int, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """[B, C, H, W] -> [B, C, size_px, size_px], antialiased where it shrinks; squashed if not square; untouched if it fits."""
    if images.shape[-2:] == (size_px, size_px):
        return images
    return F.interpolate(images, size=(size_px, size_px), mode=mode, align_corners=False, antialias=True)


def antialiased_rule(size_px: int, mode: str) -> str:
    """The name of `antialiased`."""
    return f"{mode} to {size_px}x{size_px} px, antialiased, not rounded"


def pillow_bicubic(pixels: Tensor, size_px: int) -> Tensor:
    """uint8 [B, 3, H, W] -> uint8 [B, 3, size_px, size_px]: the shorter side by Pillow's bicubic, then the middle."""
    height, width = pixels.shape[-2:]
    short = min(height, width)
    tall, wide = int(size_px * height / short), int(size_px * width / short)
    top, left = (tall - size_px) // 2, (wide - size_px) // 2
    pictures = [Image.fromarray(one.permute(1, 2, 0).contiguous().numpy()) for one in pixels]
    resized = np.stack([np.asarray(picture.resize((wide, tall), Image.Resampling.BICUBIC)) for picture in pictures])
    return torch.from_numpy(resized)[:, top : top + size_px, left : left + size_px].permute(0, 3, 1, 2).contiguous()


def pillow_rule(size_px: int) -> str:
    """The name of `pillow_bicubic`."""
    return f"bicubic by Pillow, shorter side to {size_px} px, middle {size_px}x{size_px} px, rounded to 8 bits"


def coarsened(images: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Reduce images to the detail that a picture of another size could show: shrink them, and enlarge them again.

    Both ways are antialiased bicubic, as the data's transform resamples.

    Args:
        images: [B, C, H, W], normally in [-1, 1].
        size_px: (height, width) to shrink to; a side that is not smaller than that of the images is kept.

    Returns:
        [B, C, H, W]. Bicubic may exceed the range of `images` slightly. `images` itself where neither side is smaller.
    """
    height, width = images.shape[-2:]
    small = min(height, size_px[0]), min(width, size_px[1])
    if small == (height, width):
        return images
    coarse = F.interpolate(images, size=small, mode="bicubic", align_corners=False, antialias=True)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
