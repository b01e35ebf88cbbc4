"""The convolutional parts of AlexNet, VGG16 and SqueezeNet 1.1, with the names of torchvision's state-dict files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TrunkName = Literal["alexnet", "vgg16", "squeezenet"]


@dataclass(frozen=True)
class Taps:
    """Where a trunk is read: `indices` of the layers whose outputs count, `channels` of each, least side of a picture."""

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    least_px: int


TAPS: dict[TrunkName, Taps] = {
    "alexnet": Taps((1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31),
    "vgg16": Taps((3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16),
    "squeezenet": Taps((1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512), 17),
}


class Trunk(nn.Module):
    """A sequence of layers called `features`, read after several layers."""

    def __init__(self, name: TrunkName) -> None:
        super().__init__()
        self.taps = TAPS[name]
        self.features = nn.Sequential(*{"alexnet": _alexnet, "vgg16": _vgg16, "squeezenet": _squeezenet}[name]())

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the maps [B, C, h, w] after each tapped layer."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps.indices:
                maps.append(x)
        return maps


class Fire(nn.Module):
    """SqueezeNet's module: a 1x1 convolution to few channels, then 1x1 beside 3x3 (Iandola et al. 2016)."""

    def __init__(self, channels_in: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, 2 wide, H, W]."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def _alexnet() -> Sequence[nn.Module]:
    """Krizhevsky 2014 (arXiv 1404.5997), one column, up to the last ReLU of its convolutions."""
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg16() -> Sequence[nn.Module]:
    """Simonyan & Zisserman 2014 (arXiv 1409.1556), configuration D, without the last pooling."""
    layers: list[nn.Module] = []
    channels_in = 3
    for repeats, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(repeats):
            layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU()]
            channels_in = channels
        layers.append(nn.MaxPool2d(2))
    return layers[:-1]


def _squeezenet() -> Sequence[nn.Module]:
    """Iandola et al. 2016 (arXiv 1602.07360) in its version 1.1."""
    return [
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    ]  # fmt: skip
