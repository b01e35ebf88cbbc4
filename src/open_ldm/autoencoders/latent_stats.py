"""Raw latents <-> latents: a recorded shift and scale per channel, measured or given, never a literal in the code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError

Scale = Annotated[float, Field(gt=0)]


class MeasuredStats(Config):
    """Mean and deviation per channel over the first `pictures` views of the data."""

    kind: Literal["measured"] = "measured"
    pictures: int = Field(default=1024, ge=2)


class GivenStats(Config):
    """latents = (raw - shift) * scale. Each is one number for all channels, as published autoencoders give them, or a list
    of one per channel, as `ldm data stats` measures them."""

    kind: Literal["given"] = "given"
    scale: Scale | tuple[Scale, ...]
    shift: float | tuple[float, ...] = 0.0

    @model_validator(mode="after")
    def _lists_of_equal_length(self) -> GivenStats:
        counts = {len(values) for values in (self.scale, self.shift) if isinstance(values, tuple)}
        if len(counts) > 1 or 0 in counts:
            raise ValueError("scale and shift need one number each, or one per channel")
        return self


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

    def as_given(self) -> GivenStats:
        """The same as a setting, to be written into a recipe; six digits, more than any measurement is worth."""
        scale = tuple(float(f"{1 / std:.6g}") for std in self.std)
        return GivenStats(scale=scale, shift=tuple(float(f"{mean:.6g}") for mean in self.mean))

    @staticmethod
    def _channel(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def given(config: GivenStats, channels: int) -> LatentStats:
    """The published convention as mean and deviation. Raises ConfigError when it is about another number of channels."""
    shift, scale = (values if isinstance(values, tuple) else (values,) * channels for values in (config.shift, config.scale))
    if odd := [len(values) for values in (shift, scale) if len(values) != channels]:
        raise ConfigError(
            f"latent_stats are given for {odd[0]} channels",
            needed=f"one number, or {channels}: as many as the latents have",
            fix="ldm data stats RECIPE measures them",
        )
    return LatentStats(mean=shift, std=tuple(1 / value for value in scale))


def measure(raw_latents: Iterable[Tensor | Posterior]) -> LatentStats:
    """Mean and deviation per channel, in float64, over batches [B, C, h, w] of raw latents or of posteriors over them.

    A posterior counts as all of its draws: variance = variance of its means + mean of its variances. A constant channel
    keeps deviation 1.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in raw_latents:
        posterior = batch if isinstance(batch, Posterior) else Posterior(batch)
        values = _by_channel(posterior.mean)
        count += values.shape[1]
        total = total + values.sum(dim=1)
        squares = squares + (values**2).sum(dim=1)
        if posterior.std is not None:
            squares = squares + (_by_channel(posterior.std) ** 2).sum(dim=1)
    mean = total / count
    std = (squares / count - mean**2).clamp(min=0).sqrt()
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return LatentStats(tuple(mean.tolist()), tuple(std.tolist()))


def _by_channel(values: Tensor) -> Tensor:
    return values.cpu().double().transpose(0, 1).flatten(1)  # [C, B h w]
