"""Raw latents <-> latents: a recorded shift and scale per channel, measured or given, never a literal in the code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config


class MeasuredStats(Config):
    """Mean and deviation per channel over the first `pictures` views of the data."""

    kind: Literal["measured"] = "measured"
    pictures: int = Field(default=1024, ge=2)


class GivenStats(Config):
    """latents = (raw - shift) * scale, one number for all channels, as published autoencoders give them."""

    kind: Literal["given"] = "given"
    scale: float = Field(gt=0)
    shift: float = 0.0


LatentStatsConfig = Annotated[MeasuredStats | GivenStats, Field(discriminator="kind")]


@dataclass(frozen=True)
class LatentStats:
    """latents = (raw_latents - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, raw_latents: Tensor) -> Tensor:
        """Raw latents [B, C, h, w] -> latents."""
        return (raw_latents - self._channel(self.mean, raw_latents)) / self._channel(self.std, raw_latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] -> raw latents."""
        return latents * self._channel(self.std, latents) + self._channel(self.mean, latents)

    @staticmethod
    def _channel(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def given(config: GivenStats, channels: int) -> LatentStats:
    """The published convention as mean and deviation."""
    return LatentStats(mean=(config.shift,) * channels, std=(1 / config.scale,) * channels)


def measure(raw_latents: Iterable[Tensor]) -> LatentStats:
    """Mean and deviation per channel, in float64, over batches [B, C, h, w]. A constant channel keeps deviation 1."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in raw_latents:
        values = batch.double().transpose(0, 1).flatten(1)
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + (values**2).sum(dim=1)
    mean = total / count
    std = (squares / count - mean**2).clamp(min=0).sqrt()
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return LatentStats(tuple(mean.tolist()), tuple(std.tolist()))
