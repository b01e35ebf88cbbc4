"""Convolutions of the UNet, on activations whose channels are next to each other in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.linear import Linear


class Conv2d(nn.Module):
    """A convolution of odd `kernel`, padded to keep the size; its weight follows the activations' dtype.

    The weight is stored as [out, kernel, kernel, in]: seen as [out, in, kernel, kernel] it is channels-last, so the result is
    too, tokens are a view of it, and neither weight nor gradient is reordered in a step.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, kernel, kernel, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        bound = 1 / math.sqrt(inputs * kernel * kernel)  # torch's own
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H / stride, W / stride]."""
        weight = self.weight.to(x.dtype).permute(0, 3, 1, 2)
        return F.conv2d(x, weight, self.bias.to(x.dtype), self.stride, self.padding)


class Pointwise(Linear):
    """A 1x1 convolution, computed and stored as a matrix."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 2 H, 2 W]."""
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled
