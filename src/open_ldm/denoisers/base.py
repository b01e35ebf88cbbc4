"""The contract of every denoiser, and the geometry that the transformers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.blocks.attention import Attention
from open_ldm.denoisers.blocks.positions import GridPositions, PositionsConfig
from open_ldm.denoisers.blocks.rms_norm import QkNorm
from open_ldm.denoisers.blocks.routing import RoutingConfig

BOTH_SLOTS: frozenset[Slot] = frozenset({"modulation", "context"})


@dataclass(frozen=True)
class Prediction:
    """A denoiser's output.

    Attributes:
        mean: [B, C, H, W] in the model's prediction kind.
        variance_fraction: [B, C, H, W] where the variance is learned, else None.
    """

    mean: Tensor
    variance_fraction: Tensor | None = None


Forward = Callable[[Tensor, Tensor, Conditions], Prediction]
"""(x_t [B, C, H, W], time [B], conditions) -> Prediction."""


@dataclass(frozen=True)
class TrainingPass:
    """One forward pass of a training step.

    Attributes:
        forward: Computes the prediction whose loss is taken.
        noise: Purpose (core/seeds.py) of the unit noise that its x_t is made with; passes of different purposes see the same
            x_0 and t under independent noise.
    """

    forward: Forward
    noise: str = "noise"


@dataclass(frozen=True)
class ContextAttention:
    """An attention in which image tokens read the context.

    Attributes:
        attention: The module that computes it.
        keys: Which of its keys are the context: all of them (cross-attention), or the first or last L of the sequence, in which
            image and context tokens are queries and keys alike (joint attention).
    """

    attention: Attention
    keys: Literal["all", "first", "last"]

    def image_to_context(self, weights: Tensor, length: int) -> Tensor:
        """Take the weights of image queries at context keys.

        Args:
            weights: All weights of this attention, [B, heads, queries, keys].
            length: Number L of context tokens.

        Returns:
            [B, heads, T, L].
        """
        match self.keys:
            case "all":
                return weights
            case "first":
                return weights[:, :, length:, :length]
            case "last":
                return weights[:, :, :-length, -length:]


@dataclass(frozen=True)
class Layer:
    """A block that returns image tokens [B, T, D], or a feature map [B, D, h, w].

    Context tokens may stand behind those of the image, or beside them as a second tensor.

    Attributes:
        block: The module.
        width: D.
        patch: Side of a token, or of a place of the map, in latent pixels.
    """

    block: nn.Module
    width: int
    patch: int


@dataclass(frozen=True)
class Slots:
    """What a denoiser must accept and return.

    Attributes:
        channels: Channels C of the latents.
        context_dim: Width of the context tokens; None for a denoiser without context.
        learned_variance: Whether it also predicts the variance.
        latent_size: (height, width) of the latents in training, for networks whose tables have a size; others take any.
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

    Attributes:
        compute_dtype: Dtype of the matrix products; parameters and the residual stream stay float32.
    """

    compute_dtype: torch.dtype = torch.float32

    @abstractmethod
    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        """Predict from noised latents.

        Args:
            x_t: Noised latents [B, C, H, W].
            time: [B], in the unit of `Schedule.network_time`.
            conditions: The slots; `modulation` is [B, `modulation_dim` of the config].

        Returns:
            The prediction, float32.

        Raises:
            ConfigError: The network cannot take latents of this size.
            ValueError: The network was built with a context slot that it cannot do without, and got no context.
        """

    @abstractmethod
    def block_modules(self) -> Sequence[nn.Module]:
        """Return the repeated blocks in the order of computation: the units to compile, to shard or to recompute."""
        raise NotImplementedError

    def layers(self) -> Sequence[Layer]:
        """Return the blocks of a pass over all tokens in the order of computation, with what they return of the image."""
        raise NotImplementedError

    def context_attentions(self) -> Sequence[ContextAttention]:
        """Return the attentions through which a forward pass reads the context, in the order of computation."""
        return ()

    def training_passes(self, draws: Draws) -> Sequence[TrainingPass]:
        """Return the forward passes whose losses one training step sums.

        Args:
            draws: Random numbers of the batch, for passes that hide something at random.

        Returns:
            By default the network itself, once.
        """
        return (TrainingPass(self),)

    def split(self, output: Tensor, slots: Slots) -> Prediction:
        """Separate the mean from the variance channels of [B, C or 2 C, H, W]."""
        if not slots.learned_variance:
            return Prediction(output)
        mean, fraction = output.chunk(2, dim=1)
        return Prediction(mean, fraction)


class DenoiserSettings(Config):
    """What the config of every denoiser declares.

    Attributes:
        reads_slots: The condition slots that the network reads. A recipe that routes a condition to another one is refused.
    """

    reads_slots: ClassVar[frozenset[Slot]]


class GeometryConfig(DenoiserSettings):
    """Geometry: a named size, any part of which can be overridden. `patch`: side of a patch in latent pixels.

    `qk_norm` rms: queries and keys are normalised per head, for stability in bf16 and at higher learning rates.
    """

    presets: ClassVar[Mapping[str, tuple[str, ...]]] = {"size": ("depth", "width", "heads")}
    later_settings: ClassVar[tuple[str, ...]] = ("qk_norm",)

    size: Literal["XS", "S", "B", "L", "XL"] = "B"
    patch: int = Field(default=2, ge=1, le=32)
    depth: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=8)
    heads: int | None = Field(default=None, ge=1)
    qk_norm: QkNorm = "none"

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), self.later_settings)

    @property
    def side_multiple(self) -> int:
        """The number that must divide both sides of the latents."""
        return self.patch

    @property
    def side_use(self) -> str:
        """The phrase that says how the side is divided, for error messages: 'cut in patches of 2'."""
        return f"cut in patches of {self.patch}"

    @property
    def modulation_dim(self) -> int:
        """Width of the modulation slot."""
        return self.geometry.width

    @property
    def geometry(self) -> Geometry:
        """The size with overrides applied. Raises ConfigError when the heads do not divide the width."""
        named = SIZES[self.size]
        depth, width, heads = self.depth or named.depth, self.width or named.width, self.heads or named.heads
        if width % heads or width % 4:
            raise ConfigError(
                f"denoiser.width={width} with heads={heads} does not fit",
                needed="a width divisible by 4 and by the heads",
            )
        return Geometry(depth, width, heads)


class TransformerConfig(GeometryConfig):
    """A transformer whose position table is fixed.

    Attributes:
        positions: Which table.
        routing: In training a part of the image tokens takes a route around the middle blocks; null, the default, routes none.
    """

    later_settings: ClassVar[tuple[str, ...]] = (*GeometryConfig.later_settings, "routing")

    positions: PositionsConfig = GridPositions()
    routing: RoutingConfig | None = None

    @property
    def geometry(self) -> Geometry:
        """See `GeometryConfig.geometry`. Raises ConfigError also where the routing leaves no block to go around."""
        shape = super().geometry
        if self.routing is not None:
            self.routing.require_blocks(shape.depth)
        return shape


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
