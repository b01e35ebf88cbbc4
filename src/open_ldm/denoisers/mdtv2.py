"""MDTv2: a DiT with shortcuts in its encoder, which in a second pass of each training step sees a part of the tokens only
(Gao et al. 2023, arXiv 2303.14389, second version).

    tokens --> in blocks --> out blocks --> + decoder positions --> decoder blocks --> final layer
       |          '--- last in, first out ---^        (hidden tokens: side block)         ^
       '----------------------------------------------------------------------------------'

Position tables are learned, and every attention knows the offset between two tokens. Context tokens, when the conditioning
uses that slot, follow the image tokens through every block and shortcut (the decoder's brings them as embedded); they lie
nowhere, are never hidden, and are dropped at the end. Without them the network is the published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.base import Denoiser, GeometryConfig, Prediction, Slots, TrainingPass
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, patches_of, unpatchify
from open_ldm.denoisers.blocks.grid_table import GridTable
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer
from open_ldm.denoisers.blocks.positions import Grid, GridPositions, computed_table
from open_ldm.denoisers.blocks.relative_bias import RelativeBias, TokenPairs, token_pairs
from open_ldm.denoisers.dit import DiTBlock

DECODE_LAYERS = {"XS": 2, "S": 6, "B": 4, "L": 4, "XL": 4}
"""Decoder blocks of the published sizes, and of XS."""

MASK_SPREAD = 0.2


class MDTv2Config(GeometryConfig):
    """MDTv2-{XS,S,B,L,XL}/{patch}. `depth` counts in, out and decoder blocks, not the side block.

    `decode_layers`: decoder blocks, by default those of the named size. `mask_ratio`: least share of tokens hidden in the
    second pass of a training step, None for no such pass; each step hides up to `mask_spread` more.
    """

    kind: Literal["mdtv2"] = "mdtv2"
    decode_layers: int | None = Field(default=None, ge=1)
    mask_ratio: float | None = Field(default=0.3, gt=0, lt=1)
    mask_spread: float = Field(default=MASK_SPREAD, ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_tokens(self) -> MDTv2Config:
        if self.mask_ratio is None and self.mask_spread != MASK_SPREAD:
            raise ValueError("mask_spread has no effect while mask_ratio is null")
        if self.mask_ratio is not None and self.mask_ratio + self.mask_spread >= 1:
            raise ValueError(f"mask_ratio {self.mask_ratio} + mask_spread {self.mask_spread} leaves no tokens; needed: below 1")
        return self

    @property
    def decoder_depth(self) -> int:
        """Number of decoder blocks."""
        return self.decode_layers or DECODE_LAYERS[self.size]

    @property
    def half_depth(self) -> int:
        """Number of in blocks, and of out blocks. Raises when the blocks that are no decoder blocks do not pair up."""
        depth = self.geometry.depth
        half, odd = divmod(depth - self.decoder_depth, 2)
        if half < 1 or odd:
            raise ConfigError(
                f"denoiser.depth={depth} with decode_layers={self.decoder_depth} does not fit",
                needed="an even number of blocks, at least 2, before the decoder",
                fix="change denoiser.decode_layers",
            )
        return half


@dataclass(frozen=True)
class Layout:
    """What attention must know of N tokens: their `pairs`, and a `mask` bool [B, N] of those it may ask, or None for all."""

    pairs: TokenPairs
    mask: Tensor | None

    def among(self, tokens: Tensor) -> Layout:
        """The layout of some tokens [B, K] only."""
        return Layout(self.pairs.among(tokens), None if self.mask is None else self.mask.gather(1, tokens))


class MDTv2Block(nn.Module):
    """A DiT block with relative position bias. One that `joins` first merges x with the tokens a shortcut brings."""

    def __init__(self, width: int, heads: int, grid: Grid, joins: bool = False) -> None:
        super().__init__()
        self.join = Linear(2 * width, width) if joins else None
        self.bias = RelativeBias(grid, heads)
        self.body = DiTBlock(width, heads)

    def forward(self, x: Tensor, vector: Tensor, layout: Layout, shortcut: Tensor | None = None) -> Tensor:
        """x [B, N, D] float32, activated modulation [B, D], shortcut [B, N, D] -> [B, N, D] float32."""
        dtype = vector.dtype
        if self.join is not None and shortcut is not None:
            x = self.join(torch.cat([x.to(dtype), shortcut.to(dtype)], dim=2)).float()
        joined: Tensor = self.body(x, vector, layout.mask, self.bias(layout.pairs).to(dtype))
        return joined


class SideInterpolater(nn.Module):
    """Puts one learned token in every hidden place and lets a block of its own turn it into a guess; seen tokens pass by."""

    def __init__(self, width: int, heads: int, grid: Grid) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.block = MDTv2Block(width, heads, grid)

    def forward(self, x: Tensor, seen: Tensor, places: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        """x [B, K, D] of the tokens `seen` [B, K] of N, positions [N, D] -> [B, N, D]."""
        B, N, D = len(x), *places.shape
        into = seen.unsqueeze(2)
        x = self.mask_token.expand(B, N, D).scatter(1, into.expand(-1, -1, D), x) + places
        hidden = torch.ones(B, N, 1, dtype=torch.bool, device=x.device).scatter(1, into, False)
        return torch.where(hidden, self.block(x, vector, layout), x)


class MDTv2(Denoiser):
    """See the module's docstring. Its tables are those of `slots.latent_size`; other latents get them resized."""

    def __init__(self, config: MDTv2Config, slots: Slots) -> None:
        super().__init__()
        shape, half = config.geometry, config.half_depth
        grid = patches_of(slots.latent_size, config.patch)
        self.config, self.slots, self.patch = config, slots, config.patch
        self.patch_embedding = PatchEmbedding(slots.channels, config.patch, shape.width)
        self.positions = GridTable(_sinusoidal(grid, shape.width), grid)
        self.decoder_positions = GridTable(_sinusoidal(grid, shape.width), grid)
        self.time_embedding = TimeEmbedding(shape.width)
        self.context_embedding = Linear(slots.context_dim, shape.width) if slots.context_dim else None

        def blocks(count: int, joins: bool) -> nn.ModuleList:
            return nn.ModuleList(MDTv2Block(shape.width, shape.heads, grid, joins) for _ in range(count))

        self.in_blocks, self.out_blocks = blocks(half, joins=False), blocks(half, joins=True)
        self.side = None if config.mask_ratio is None else SideInterpolater(shape.width, shape.heads, grid)
        self.decoder_blocks = blocks(config.decoder_depth, joins=True)
        self.final_layer = FinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions, kept: Tensor | None = None) -> Prediction:
        """See `Denoiser.forward`. `kept` [B, K]: the only image tokens the encoder sees, numbered row by row; None for all."""
        grid = grid_of(x_t, self.patch)
        tokens, layout = self._tokens(x_t, grid, conditions)  # [B, T + L, D]
        vector = F.silu(self.time_embedding(time) + conditions.modulation).to(self.compute_dtype)  # [B, D]
        T, length = grid[0] * grid[1], tokens.shape[1]
        places = F.pad(self.decoder_positions(grid), (0, 0, 0, length - T))  # [T + L, D], zero for the context
        if kept is None:
            x = self._encode(tokens, vector, layout) + places  # [B, T + L, D]
        else:
            context = torch.arange(T, length, device=kept.device).expand(len(kept), -1)
            x = self._encode_part(tokens, torch.cat([kept, context], dim=1), places, vector, layout)
        shortcut = tokens.to(vector.dtype)
        for block in self.decoder_blocks:
            x = block(x, vector, layout, shortcut)
        out = self.final_layer(x[:, :T], vector)  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def training_passes(self, draws: Draws) -> Sequence[TrainingPass]:
        """The network as it samples, and a pass over the same x_0 and t in which it sees a part of the tokens.

        One share for the whole global batch, mask_ratio + mask_spread u; which tokens, each picture draws for itself.
        Differs from the paper: its share is drawn once for each process.
        """
        if self.config.mask_ratio is None:
            return super().training_passes(draws)
        hidden = self.config.mask_ratio + self.config.mask_spread * draws.shared_uniform("mask ratio")

        def masked(x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
            rows, columns = grid_of(x_t, self.patch)
            order = draws.uniform("mask", (rows * columns,)).argsort(dim=1, stable=True)
            kept = order[:, : max(1, int(rows * columns * (1 - hidden)))]
            prediction: Prediction = self(x_t, time, conditions, kept)
            return prediction

        return TrainingPass(self), TrainingPass(masked, noise="noise masked")

    def _tokens(self, x_t: Tensor, grid: Grid, conditions: Conditions) -> tuple[Tensor, Layout]:
        """Image tokens, then context tokens, [B, T + L, D], and their layout."""
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid)  # [B, T, D]
        if self.context_embedding is None or conditions.context is None:
            return x, Layout(token_pairs(grid, 0, x.device), None)
        context = self.context_embedding(conditions.context.to(self.compute_dtype))
        mask = conditions.context_mask
        mask = None if mask is None else F.pad(mask, (x.shape[1], 0), value=True)  # image tokens are always attended
        return torch.cat([x, context.to(x.dtype)], dim=1), Layout(token_pairs(grid, context.shape[1], x.device), mask)

    def _encode(self, x: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        shortcuts: list[Tensor] = []
        for block in self.in_blocks:
            x = block(x, vector, layout)
            shortcuts.append(x.to(vector.dtype))
        for block in self.out_blocks:
            x = block(x, vector, layout, shortcuts.pop())  # the first one gets x twice, as published
        return x

    def _encode_part(self, tokens: Tensor, seen: Tensor, places: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        """All tokens [B, N, D] when the encoder sees those numbered `seen` [B, K]."""
        if self.side is None:
            raise ValueError("this MDTv2 was built without a masked pass (mask_ratio null)")
        part = tokens.gather(1, seen.unsqueeze(2).expand(-1, -1, tokens.shape[2]))  # [B, K, D]
        x: Tensor = self.side(self._encode(part, vector, layout.among(seen)), seen, places, vector, layout)
        return x


def _sinusoidal(grid: Grid, width: int) -> Tensor:
    """What a learned position table starts as, [T, D]."""
    return computed_table(GridPositions(), grid, width).float()
