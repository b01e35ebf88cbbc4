"""The blocks of Inception v3, each declared as its branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Conv:
    """One convolution of a branch: its name in the published file, output channels, kernel (height, width), stride.

    Padding keeps the size at stride 1; there is none at stride 2.
    """

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1


Step: TypeAlias = "Conv | tuple[Conv, Conv]"
"""A convolution, or two of the same input whose outputs are put side by side."""


class NormedConv(nn.Module):
    """Convolution without bias, batch norm with fixed statistics (epsilon 0.001), ReLU."""

    def __init__(
        self, channels_in: int, channels: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels, H', W']."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches of convolutions beside a pooled branch, concatenated: branches first, pooled branch last."""

    def __init__(
        self,
        channels_in: int,
        branches: Sequence[Sequence[Step]],
        pool: Callable[[Tensor], Tensor],
        pool_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.pool = pool
        for branch in branches:
            channels = channels_in
            for step in branch:
                for conv in _convs(step):
                    padding = (conv.kernel[0] // 2, conv.kernel[1] // 2) if conv.stride == 1 else (0, 0)
                    self.add_module(conv.name, NormedConv(channels, conv.channels, conv.kernel, conv.stride, padding))
                channels = sum(conv.channels for conv in _convs(step))
        self.branch_pool = None if pool_channels is None else NormedConv(channels_in, pool_channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, sum of the branches' channels, H', W']."""
        found = [self._run(branch, x) for branch in self.branches]
        pooled = self.pool(x)
        found.append(pooled if self.branch_pool is None else self.branch_pool(pooled))
        return torch.cat(found, dim=1)

    def _run(self, branch: Sequence[Step], x: Tensor) -> Tensor:
        for step in branch:
            outputs = [self.get_submodule(conv.name)(x) for conv in _convs(step)]
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return x


def _convs(step: Step) -> tuple[Conv, ...]:
    return step if isinstance(step, tuple) else (step,)


def mean_of_neighbours(x: Tensor) -> Tensor:
    """3 x 3 mean that leaves out what lies beyond the edge, as TensorFlow does."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def largest_neighbour(x: Tensor) -> Tensor:
    """3 x 3 maximum of the same size."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halved(x: Tensor) -> Tensor:
    """3 x 3 maximum with stride 2."""
    return F.max_pool2d(x, 3, stride=2)


def block_a(channels_in: int, pool_channels: int) -> Mixed:
    """35 x 35: 1x1; 5x5; two 3x3; mean."""
    branches = [
        [Conv("branch1x1", 64, (1, 1))],
        [Conv("branch5x5_1", 48, (1, 1)), Conv("branch5x5_2", 64, (5, 5))],
        [Conv("branch3x3dbl_1", 64, (1, 1)), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))],
    ]
    return Mixed(channels_in, branches, mean_of_neighbours, pool_channels)


def block_b(channels_in: int) -> Mixed:
    """35 x 35 -> 17 x 17."""
    branches = [
        [Conv("branch3x3", 384, (3, 3), 2)],
        [Conv("branch3x3dbl_1", 64, (1, 1)), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3), 2)],
    ]
    return Mixed(channels_in, branches, halved)


def block_c(channels_in: int, width: int) -> Mixed:
    """17 x 17: 1x1; 1x7 and 7x1; the same twice; mean."""
    branches = [
        [Conv("branch1x1", 192, (1, 1))],
        [Conv("branch7x7_1", width, (1, 1)), Conv("branch7x7_2", width, (1, 7)), Conv("branch7x7_3", 192, (7, 1))],
        [
            Conv("branch7x7dbl_1", width, (1, 1)),
            Conv("branch7x7dbl_2", width, (7, 1)),
            Conv("branch7x7dbl_3", width, (1, 7)),
            Conv("branch7x7dbl_4", width, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ],
    ]
    return Mixed(channels_in, branches, mean_of_neighbours, 192)


def block_d(channels_in: int) -> Mixed:
    """17 x 17 -> 8 x 8."""
    branches = [
        [Conv("branch3x3_1", 192, (1, 1)), Conv("branch3x3_2", 320, (3, 3), 2)],
        [
            Conv("branch7x7x3_1", 192, (1, 1)),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, (3, 3), 2),
        ],
    ]
    return Mixed(channels_in, branches, halved)


def block_e(channels_in: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    """8 x 8: 1x1; 1x3 beside 3x1; 3x3, then 1x3 beside 3x1; pool."""
    branches: list[list[Step]] = [
        [Conv("branch1x1", 320, (1, 1))],
        [Conv("branch3x3_1", 384, (1, 1)), (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))],
        [
            Conv("branch3x3dbl_1", 448, (1, 1)),
            Conv("branch3x3dbl_2", 384, (3, 3)),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ],
    ]
    return Mixed(channels_in, branches, pool, 192)
