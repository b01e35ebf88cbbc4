"""The shift and scale between raw latents and latents, per channel: measured or given, and recorded; never a literal here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, DataError

_SMALLEST = 1e-30

Scale = Annotated[float, Field(gt=0)]


class MeasuredStats(Config):
    """Mean and deviation per channel over the first `pictures` views of the data."""

    kind: Literal["measured"] = "measured"
    pictures: int = Field(default=1024, ge=2)


class GivenStats(Config):
    """latents = (raw - shift) * scale.

    Each is one number for all channels, as published autoencoders give it, or a list of one number per channel, as
    `ldm data stats` measures it.
    """

    kind: Literal["given"] = "given"
    scale: Scale | tuple[Scale, ...]
    shift: float | tuple[float, ...] = 0.0

    @model_validator(mode="after")
    def _lists_of_equal_length(self) -> GivenStats:
        counts = {len(values) for values in (self.scale, self.shift) if isinstance(values, tuple)}
        if len(counts) > 1 or 0 in counts:
            raise ValueError("scale and shift need one number each, or one per channel")
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if not all(_SMALLEST <= scale <= 1 / _SMALLEST for scale in scales):
            raise ValueError(f"a scale is outside {_SMALLEST:g} to {1 / _SMALLEST:g}, beyond which float32 holds no latents")
        return self


LatentStatsConfig = Annotated[MeasuredStats | GivenStats, Field(discriminator="kind")]


@dataclass(frozen=True)
class LatentStats:
    """latents = (raw_latents - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        if len(self.mean) != len(self.std) or not self.std or not all(map(_is_finite, numbers)) or min(self.std) <= 0:
            raise ValueError(f"latent statistics are mean {list(self.mean)}, std {list(self.std)}; needed: finite, std above 0")

    def normalise(self, raw_latents: Tensor) -> Tensor:
        """Convert raw latents [B, C, h, w] to latents."""
        return (raw_latents - self._channel(self.mean, raw_latents)) / self._channel(self.std, raw_latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Convert latents [B, C, h, w] to raw latents."""
        return latents * self._channel(self.std, latents) + self._channel(self.mean, latents)

    def as_given(self) -> GivenStats:
        """Return the statistics as a setting for a recipe, with six digits, which exceeds the precision of a measurement."""
        scale = tuple(float(f"{1 / std:.6g}") for std in self.std)
        return GivenStats(scale=scale, shift=tuple(float(f"{mean:.6g}") for mean in self.mean))

    @staticmethod
    def _channel(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def given(config: GivenStats, channels: int) -> LatentStats:
    """Convert given statistics to mean and deviation per channel.

    Raises:
        ConfigError: They are given for another number of channels.
    """
    shift, scale = (values if isinstance(values, tuple) else (values,) * channels for values in (config.shift, config.scale))
    if wrong := [len(values) for values in (shift, scale) if len(values) != channels]:
        raise ConfigError(
            f"latent_stats are given for {wrong[0]} channels",
            needed=f"one number, or {channels} numbers, one for each channel of the latents",
            fix="measure them with ldm data stats RECIPE",
        )
    return LatentStats(mean=shift, std=tuple(1 / value for value in scale))


def measure(raw_latents: Iterable[Tensor | Posterior]) -> LatentStats:
    """Measure mean and deviation per channel, in float64.

    A posterior counts as all samples from it: variance = variance of its means + mean of its variances. A constant channel
    keeps deviation 1.

    Args:
        raw_latents: Batches [B, C, h, w] of raw latents or of posteriors over them.

    Raises:
        DataError: They hold NaN or infinity.
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
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise DataError("the latents of the pictures hold NaN or infinity", fix="check the autoencoder, or another dtype")
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    return LatentStats(tuple(mean.tolist()), tuple(std.tolist()))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _by_channel(values: Tensor) -> Tensor:
    return values.cpu().double().transpose(0, 1).flatten(1)  # [C, B h w]
