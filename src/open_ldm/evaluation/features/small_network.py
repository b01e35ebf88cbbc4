"""A small convolutional classifier: a few hundred thousand weights, enough for features of one's own pictures."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.core import seeds
from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.evaluation.features.base import Features
from open_ldm.evaluation.features.distance import unit_channels

_GROUPS = 8


class SmallNetworkConfig(Config):
    """`size_px`: side of the pictures it sees; `width`: channels at full size, doubled at each of three halvings up to four
    times; `dim`: length of a feature vector. `statistics`: the vector is also made of mean and deviation of each channel of the
    picture, which the norms of the convolutions take away: for what shows in brightness or colour."""

    size_px: int = Field(default=32, ge=8)
    width: int = Field(default=32, ge=_GROUPS, multiple_of=_GROUPS)
    dim: int = Field(default=64, ge=2)
    statistics: bool = False

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("statistics",))


class Stage(nn.Module):
    """Halve the size, then one residual convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)
        self.norm_1 = nn.GroupNorm(_GROUPS, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_2 = nn.GroupNorm(_GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels, H / 2, W / 2]."""
        x = F.relu(self.norm_1(self.down(x)))
        return F.relu(x + self.norm_2(self.conv(x)))


class SmallNetwork(nn.Module):
    """Pictures of `channels` channels -> maps of three stages, a feature vector, and logits of `classes` classes."""

    def __init__(self, config: SmallNetworkConfig, classes: int, channels: int = 3) -> None:
        super().__init__()
        w = config.width
        self.stem = nn.Conv2d(channels, w, 3, padding=1)
        self.stages = nn.ModuleList([Stage(w, w), Stage(w, 2 * w), Stage(2 * w, 4 * w)])
        self.statistics = config.statistics
        self.vector = nn.Linear(4 * w + (2 * channels if config.statistics else 0), config.dim)
        self.head = nn.Linear(config.dim, classes)

    def maps(self, images: Tensor) -> list[Tensor]:
        """[B, channels, H, W] -> the maps after each stage."""
        x = F.relu(self.stem(images))  # [B, w, H, W]
        found = []
        for stage in self.stages:
            x = stage(x)  # [B, C, H / 2, W / 2]
            found.append(x)
        return found

    def vectors(self, last: Tensor, images: Tensor) -> Tensor:
        """Maps of the last stage, and the pictures -> the penultimate activations [B, dim]."""
        pooled = last.mean(dim=(2, 3))  # [B, 4 w]
        if self.statistics:
            pooled = torch.cat([pooled, images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)
        return F.silu(self.vector(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Images float [B, channels, size_px, size_px] in [-1, 1] -> logits [B, classes]."""
        logits: Tensor = self.head(self.vectors(self.maps(images)[-1], images))
        return logits

    def features(self, images: Tensor) -> Features:
        """All that an extractor gives; layers are brought to unit length at every position and not weighted."""
        maps = self.maps(images)
        vectors = self.vectors(maps[-1], images)
        return Features(vectors, self.head(vectors).softmax(dim=1), tuple(unit_channels(each) for each in maps))


def new_network(config: SmallNetworkConfig, classes: int, seed: int, channels: int = 3) -> SmallNetwork:
    """A network whose weights are a function of `seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(seed, "small network"))
        return SmallNetwork(config, classes, channels)
