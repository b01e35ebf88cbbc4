"""The contract of every denoiser, and the geometry the transformers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.blocks.positions import GridPositions, PositionsConfig


@dataclass(frozen=True)
class Prediction:
    """A denoiser's output: `mean` [B, C, H, W] in the model's prediction kind; `variance_fraction` likewise when learned."""

    mean: Tensor
    variance_fraction: Tensor | None = None


Forward = Callable[[Tensor, Tensor, Conditions], Prediction]
"""(x_t [B, C, H, W], time [B], conditions) -> Prediction."""


@dataclass(frozen=True)
class TrainingPass:
    """One forward pass of a training step. `noise`: purpose of the unit noise its x_t is made with; passes of different
    purposes see the same x_0 and t under independent noise."""

    forward: Forward
    noise: str = "noise"


@dataclass(frozen=True)
class Slots:
    """What a denoiser must accept: latent channels, width of context tokens (None: no context) and learned variance.

    `latent_size`: (height, width) it is trained at, for networks whose tables have a size; others take any.
    """

    channels: int
    context_dim: int | None
    learned_variance: bool = False
    latent_size: tuple[int, int] = (32, 32)

    @property
    def output_channels(self) -> int:
        """Twice the channels when the variance is learned."""
        return self.channels * (2 if self.learned_variance else 1)


class Denoiser(nn.Module):
    """x_t and conditions -> prediction. No guidance, dropout, schedule or knowledge of data inside.

    `compute_dtype`: dtype of the matrix products; parameters and the residual stream stay float32.
    """

    compute_dtype: torch.dtype = torch.float32

    @abstractmethod
    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        """x_t [B, C, H, W], time [B] (`Schedule.network_time`) -> Prediction of [B, C, H, W], float32."""

    def training_passes(self, draws: Draws) -> Sequence[TrainingPass]:
        """The forward passes whose losses one training step sums; a masked twin adds itself here, drawing from `draws`."""
        return (TrainingPass(self),)

    def split(self, output: Tensor, slots: Slots) -> Prediction:
        """Separate the mean from the variance channels of [B, C or 2C, H, W]."""
        if not slots.learned_variance:
            return Prediction(output)
        mean, fraction = output.chunk(2, dim=1)
        return Prediction(mean, fraction)


class GeometryConfig(Config):
    """Geometry: a named size, any part of which can be overridden. `patch`: side of a patch in latent pixels."""

    size: Literal["XS", "S", "B", "L", "XL"] = "B"
    patch: int = Field(default=2, ge=1, le=32)
    depth: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=8)
    heads: int | None = Field(default=None, ge=1)

    @property
    def side_multiple(self) -> int:
        """What both sides of the latents must be a multiple of."""
        return self.patch

    @property
    def side_use(self) -> str:
        """Why, as it ends a sentence: 'latents cannot be ...'."""
        return f"cut in patches of {self.patch}"

    @property
    def modulation_dim(self) -> int:
        """Width of the modulation slot."""
        return self.geometry.width

    @property
    def geometry(self) -> Geometry:
        """The size with overrides applied. Raises when the heads do not divide the width."""
        named = SIZES[self.size]
        depth, width, heads = self.depth or named.depth, self.width or named.width, self.heads or named.heads
        if width % heads or width % 4:
            raise ConfigError(
                f"denoiser.width={width} with heads={heads} does not fit",
                needed="a width divisible by 4 and by the heads",
            )
        return Geometry(depth, width, heads)


class TransformerConfig(GeometryConfig):
    """A transformer whose position table is fixed. `positions`: which one."""

    positions: PositionsConfig = GridPositions()


@dataclass(frozen=True)
class Geometry:
    """Number of blocks, width D and attention heads."""

    depth: int
    width: int
    heads: int


SIZES = {
    "XS": Geometry(4, 128, 4),
    "S": Geometry(12, 384, 6),
    "B": Geometry(12, 768, 12),
    "L": Geometry(24, 1024, 16),
    "XL": Geometry(28, 1152, 16),
}
