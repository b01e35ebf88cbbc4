"""UNet of latent diffusion (Rombach et al. 2022; LDM-4-G): residual blocks at decreasing and increasing resolution, joined by
skips.

The modulation acts through every residual block, the context through cross-attention in the transformers. Without a context
slot the transformers have self-attention and MLP only.

Differs from the paper: its code can drop activations at random in the residual blocks; all published configs set that to 0, and
networks draw no random numbers here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.base import BOTH_SLOTS, ContextAttention, Denoiser, DenoiserSettings, Layer, Prediction, Slots
from open_ldm.denoisers.blocks.convolution import Conv2d, Upsample
from open_ldm.denoisers.blocks.embeddings import TimeEmbedding
from open_ldm.denoisers.blocks.residual import EPSILON, AdaptiveNorm, ResidualBlock
from open_ldm.denoisers.blocks.spatial_transformer import SpatialTransformer


class UNetConfig(DenoiserSettings):
    """Geometry: a named size, any part of which can be overridden.

    Level i has `multipliers[i]` x `model_channels` channels at 1 / 2^i of the resolution, with `blocks_per_level` residual
    blocks on the way down and one more on the way up. Levels whose factor 2^i is in `attention_factors`, and the middle, have
    transformers of `transformer_depth` blocks with `heads` heads, or with heads of `head_dim`. `groups`: of every group norm.
    `adaptive_norm`: how the modulation enters a residual block.
    """

    reads_slots: ClassVar[frozenset[Slot]] = BOTH_SLOTS
    presets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "size": ("model_channels", "multipliers", "blocks_per_level", "attention_factors", "heads", "head_dim", "groups")
    }

    kind: Literal["unet"] = "unet"
    size: Literal["XS", "S", "B", "L", "XL"] = "B"
    model_channels: int | None = Field(default=None, ge=4, multiple_of=2)
    multipliers: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    blocks_per_level: int | None = Field(default=None, ge=1)
    attention_factors: tuple[int, ...] | None = None
    heads: int | None = Field(default=None, ge=1)
    head_dim: int | None = Field(default=None, ge=1)
    transformer_depth: int = Field(default=1, ge=1)
    groups: int | None = Field(default=None, ge=1)
    adaptive_norm: AdaptiveNorm = "shift"

    @model_validator(mode="after")
    def _fits_together(self) -> UNetConfig:
        if self.heads is not None and self.head_dim is not None:
            raise ValueError("heads and head_dim are both given; needed: one of them")
        shape = self.geometry
        factors = [2**level for level in range(len(shape.channels))]
        if odd := sorted({*shape.attention_factors} - {*factors}):
            raise ValueError(f"attention_factors has {odd[0]}, which no level has; needed: some of {factors}")
        for level, channels in enumerate(shape.channels):
            if channels % shape.groups:
                raise ValueError(f"level {level} has {channels} channels; needed: a multiple of the {shape.groups} groups")
            part = shape.heads or shape.head_dim or 1
            if channels % part and (shape.attends(level) or level == len(factors) - 1):
                name = "heads" if shape.heads else "head_dim"
                raise ValueError(f"level {level} has {channels} channels; needed: a multiple of {name}={part}")
        return self

    @property
    def side_multiple(self) -> int:
        """The number that must divide both sides of the latents."""
        return int(2 ** (len(self.geometry.multipliers) - 1))

    @property
    def side_use(self) -> str:
        """The phrase that says how the side is divided, for error messages: 'halved 2 times'."""
        return f"halved {len(self.geometry.multipliers) - 1} times"

    @property
    def modulation_dim(self) -> int:
        """Width of the modulation slot."""
        return 4 * self.geometry.model_channels

    @property
    def geometry(self) -> UNetGeometry:
        """The size with overrides applied."""
        named = UNET_SIZES[self.size]
        counted = self.heads is not None or self.head_dim is not None
        return UNetGeometry(
            self.model_channels or named.model_channels,
            self.multipliers or named.multipliers,
            self.blocks_per_level or named.blocks_per_level,
            named.attention_factors if self.attention_factors is None else self.attention_factors,
            self.heads if counted else named.heads,
            self.head_dim if counted else named.head_dim,
            self.groups or named.groups,
        )


@dataclass(frozen=True)
class UNetGeometry:
    """The numbers of `UNetConfig`; exactly one of `heads` and `head_dim` is set."""

    model_channels: int
    multipliers: tuple[int, ...]
    blocks_per_level: int
    attention_factors: tuple[int, ...]
    heads: int | None
    head_dim: int | None
    groups: int = 32

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.model_channels * multiplier for multiplier in self.multipliers)

    def attends(self, level: int) -> bool:
        """Whether a level has transformers."""
        return 2**level in self.attention_factors

    def heads_of(self, level: int) -> int:
        """Number of attention heads of a level's transformers."""
        return self.heads or self.channels[level] // (self.head_dim or 1)


UNET_SIZES = {
    "XS": UNetGeometry(32, (1, 2, 3), 1, (4,), heads=None, head_dim=32, groups=8),
    "S": UNetGeometry(96, (1, 2, 4), 2, (1, 2, 4), heads=None, head_dim=32),
    "B": UNetGeometry(160, (1, 2, 4), 2, (1, 2, 4), heads=None, head_dim=32),
    "L": UNetGeometry(192, (1, 2, 3, 5), 2, (2, 4, 8), heads=1, head_dim=None),
    "XL": UNetGeometry(256, (1, 2, 3, 5), 2, (2, 4, 8), heads=None, head_dim=64),
}
"""L is LDM-4-G. XL is not published: L a third wider, which makes it as large as DiT-XL, with heads of 64 as SDXL has them.

Fewer groups in XS: where a group is one channel, its norm undoes the shift that the modulation gave it.
"""


@dataclass(frozen=True)
class StageInputs:
    """What every stage gets beside the feature map.

    Attributes:
        vector: The activated modulation [B, M], float32.
        context: [B, L, context_dim], or None.
        mask: bool [B, L], False for context tokens that are not attended; None attends all.
        dtype: Dtype of the matrix products.
    """

    vector: Tensor
    context: Tensor | None
    mask: Tensor | None
    dtype: torch.dtype


class Stage(nn.Module):
    """A residual block, followed by a transformer on the levels that have them."""

    def __init__(self, residual: ResidualBlock, transformer: SpatialTransformer | None) -> None:
        super().__init__()
        self.residual, self.transformer = residual, transformer

    def forward(self, x: Tensor, inputs: StageInputs) -> Tensor:
        """Map [B, C, H, W] to [B, C', H, W], both float32."""
        x = self.residual(x, inputs.vector, inputs.dtype)
        if self.transformer is not None:
            x = self.transformer(x, inputs.context, inputs.mask, inputs.dtype)
        return x


class DownLevel(nn.Module):
    """The stages at one resolution, then half of it; the coarsest level keeps its own."""

    def __init__(self, stages: list[Stage], resample: Conv2d | None) -> None:
        super().__init__()
        self.stages, self.resample = nn.ModuleList(stages), resample

    def forward(self, x: Tensor, inputs: StageInputs) -> list[Tensor]:
        """Return every feature map on the way, as skips; the last one is the level's output, [B, C', H / 2, W / 2]."""
        maps = []
        for stage in self.stages:
            x = stage(x, inputs)
            maps.append(x)
        if self.resample is not None:
            maps.append(self.resample(x.to(inputs.dtype)).float())
        return maps


class UpLevel(nn.Module):
    """The stages at one resolution, each with a skip beside its input, then twice the resolution; the finest keeps its own."""

    def __init__(self, stages: list[Stage], resample: Upsample | None) -> None:
        super().__init__()
        self.stages, self.resample = nn.ModuleList(stages), resample

    def forward(self, x: Tensor, skips: list[Tensor], inputs: StageInputs) -> Tensor:
        """Map [B, C, H, W] and the last of the skips, which are removed from the list, to [B, C', 2 H, 2 W]."""
        for stage in self.stages:
            x = stage(torch.cat([x, skips.pop()], dim=1), inputs)
        if self.resample is not None:
            x = self.resample(x.to(inputs.dtype)).float()
        return x


class UNet(Denoiser):
    """The network of the module's docstring. `down` goes from the finest level to the coarsest, `up` back."""

    def __init__(self, config: UNetConfig, slots: Slots) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        shape = config.geometry
        coarsest = len(shape.channels) - 1
        self.time_embedding = TimeEmbedding(config.modulation_dim, features=shape.model_channels)
        self.conv_in = Conv2d(slots.channels, shape.model_channels)
        self.down, skips = self._down_levels(shape)
        channels = shape.channels[-1]
        self.middle = nn.ModuleList(self._stage(channels, coarsest, attends) for attends in (True, False))
        self.up = self._up_levels(shape, skips)
        self.norm_out = nn.GroupNorm(shape.groups, shape.channels[0], EPSILON)
        self.conv_out = Conv2d(shape.channels[0], slots.output_channels)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def _down_levels(self, shape: UNetGeometry) -> tuple[nn.ModuleList, list[int]]:
        """Build the levels, and list the channels of every skip in the order of computation."""
        channels, levels = shape.model_channels, nn.ModuleList()
        skips = [channels]
        for level, width in enumerate(shape.channels):
            inputs = [channels, *[width] * (shape.blocks_per_level - 1)]
            last = level == len(shape.channels) - 1
            stages = [self._stage(count, level, shape.attends(level)) for count in inputs]
            levels.append(DownLevel(stages, None if last else Conv2d(width, width, stride=2)))
            skips += [width] * (len(stages) + (not last))
            channels = width
        return levels, skips

    def _up_levels(self, shape: UNetGeometry, skips: list[int]) -> nn.ModuleList:
        channels, levels = shape.channels[-1], nn.ModuleList()
        for level in reversed(range(len(shape.channels))):
            width = shape.channels[level]
            inputs = [channels, *[width] * shape.blocks_per_level]
            stages = [self._stage(count + skips.pop(), level, shape.attends(level)) for count in inputs]
            levels.append(UpLevel(stages, Upsample(width) if level else None))
            channels = width
        return levels

    def _stage(self, inputs: int, level: int, attends: bool) -> Stage:
        config, shape = self.config, self.config.geometry
        width, groups, context_dim = shape.channels[level], shape.groups, self.slots.context_dim
        residual = ResidualBlock(inputs, width, config.modulation_dim, groups, config.adaptive_norm)
        if not attends:
            return Stage(residual, None)
        transformer = SpatialTransformer(width, groups, shape.heads_of(level), config.transformer_depth, context_dim)
        return Stage(residual, transformer)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        """See `Denoiser.forward`."""
        self._check_sides(x_t)
        inputs = self._stage_inputs(time, conditions)
        skips = [self.conv_in(x_t.to(inputs.dtype)).float()]  # [B, C, H, W]
        for level in self.down:
            skips += level(skips[-1], inputs)
        x = skips[-1]  # [B, C', H / 2^n, W / 2^n]
        for stage in self.middle:
            x = stage(x, inputs)
        for level in self.up:
            x = level(x, skips, inputs)
        out = self.conv_out(F.silu(self.norm_out(x).to(inputs.dtype)))  # [B, output channels, H, W]
        return self.split(out.float(), self.slots)

    def block_modules(self) -> Sequence[nn.Module]:
        """See `Denoiser.block_modules`. They are the stages; the convolutions between levels belong to none."""
        levels: list[list[Any]] = [list(self.down), list(self.up)]
        down, up = ([stage for level in side for stage in level.stages] for side in levels)
        return [*down, *self.middle, *up]

    def layers(self) -> Sequence[Layer]:
        """See `Denoiser.layers`."""
        channels, each = self.config.geometry.channels, self.config.geometry.blocks_per_level
        down, coarsest = [level for level in range(len(channels)) for _ in range(each)], len(channels) - 1
        up = [level for level in reversed(range(len(channels))) for _ in range(each + 1)]
        levels = [*down, coarsest, coarsest, *up]
        return [Layer(stage, channels[at], 2**at) for stage, at in zip(self.block_modules(), levels, strict=True)]

    def context_attentions(self) -> Sequence[ContextAttention]:
        """See `Denoiser.context_attentions`."""
        stages: Sequence[Any] = self.block_modules()
        transformers = [stage.transformer for stage in stages if stage.transformer is not None]
        crosses = [block.cross_attention for transformer in transformers for block in transformer.blocks]
        return [ContextAttention(cross.attention, keys="all") for cross in crosses if cross is not None]

    def _stage_inputs(self, time: Tensor, conditions: Conditions) -> StageInputs:
        vector = F.silu(self.time_embedding(time) + conditions.modulation)  # [B, M]
        if self.slots.context_dim is None:
            return StageInputs(vector, None, None, self.compute_dtype)
        if conditions.context is None:
            raise ValueError("this UNet was built with a context slot and got no context")
        return StageInputs(vector, conditions.context.to(self.compute_dtype), conditions.context_mask, self.compute_dtype)

    def _check_sides(self, x_t: Tensor) -> None:
        H, W = x_t.shape[-2:]
        multiple = self.config.side_multiple
        if H % multiple or W % multiple:
            raise ConfigError(
                f"latents of {H}x{W} cannot be {self.config.side_use}",
                needed=f"both sides a multiple of {multiple}",
                fix="change data.transform.size_px or denoiser.multipliers",
            )
