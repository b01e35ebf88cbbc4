"""MDTv2: a DiT with shortcuts in its encoder, which sees only a part of the tokens in a second pass of each training step
(Gao et al. 2023, arXiv 2303.14389, second version).

    tokens --> in blocks --> out blocks --> + decoder positions --> decoder blocks --> final layer
       |          '--- last in, first out ---^        (hidden tokens: side block)         ^
       '----------------------------------------------------------------------------------'

Position tables are learned, and every attention has a bias for the offset between two tokens. Context tokens, when the
conditioning uses that slot, stand behind the image tokens in every block and shortcut (the decoder's shortcut has them as they
were embedded). They have no position, are never hidden, and are dropped at the end. Without them the network is the published
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.base import (
    BOTH_SLOTS,
    ContextAttention,
    Denoiser,
    GeometryConfig,
    Layer,
    Prediction,
    Slots,
    TrainingPass,
)
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, patches_of, unpatchify
from open_ldm.denoisers.blocks.grid_table import GridTable
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer
from open_ldm.denoisers.blocks.positions import Grid, GridPositions, computed_table
from open_ldm.denoisers.blocks.relative_bias import RelativeBias, TokenPairs, token_pairs
from open_ldm.denoisers.blocks.rms_norm import QkNorm
from open_ldm.denoisers.dit import DiTBlock

DECODE_LAYERS = {"XS": 2, "S": 6, "B": 4, "L": 4, "XL": 4}
"""Decoder blocks of the published sizes, and of XS."""

MASK_SPREAD = 0.2


class MDTv2Config(GeometryConfig):
    """MDTv2-{XS,S,B,L,XL}/{patch}. `depth` counts in, out and decoder blocks, not the side block.

    `decode_layers`: decoder blocks, by default those of the named size. `mask_ratio`: smallest share of tokens that are hidden
    in the second pass of a training step, None for no such pass; each step hides up to `mask_spread` more.
    """

    reads_slots: ClassVar[frozenset[Slot]] = BOTH_SLOTS
    presets: ClassVar[Mapping[str, tuple[str, ...]]] = {"size": (*GeometryConfig.presets["size"], "decode_layers")}

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
        """Number of in blocks, and of out blocks. Raises ConfigError unless an even number of blocks precedes the decoder."""
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
    """What attention needs to know of N tokens.

    Attributes:
        pairs: The row of the bias table for each pair of tokens.
        mask: bool [B, N], False for tokens that are not attended; None attends all.
    """

    pairs: TokenPairs
    mask: Tensor | None

    def select(self, tokens: Tensor) -> Layout:
        """Return the layout of the tokens of these indices [B, K] only."""
        return Layout(self.pairs.select(tokens), None if self.mask is None else self.mask.gather(1, tokens))


class MDTv2Block(nn.Module):
    """A DiT block with relative position bias; one that `has_shortcut` first merges x with the tokens of a shortcut."""

    def __init__(self, width: int, heads: int, grid: Grid, qk_norm: QkNorm, has_shortcut: bool = False) -> None:
        super().__init__()
        self.join = Linear(2 * width, width) if has_shortcut else None
        self.bias = RelativeBias(grid, heads)
        self.body = DiTBlock(width, heads, qk_norm)

    def forward(self, x: Tensor, vector: Tensor, layout: Layout, shortcut: Tensor | None = None) -> Tensor:
        """Update the residual stream.

        Args:
            x: Tokens [B, N, D], float32.
            vector: The activated modulation [B, D].
            layout: Layout of the N tokens.
            shortcut: Tokens of an earlier block, [B, N, D], for a block that has a shortcut.

        Returns:
            [B, N, D], float32.
        """
        dtype = vector.dtype
        if self.join is not None and shortcut is not None:
            x = self.join(torch.cat([x.to(dtype), shortcut.to(dtype)], dim=2)).float()
        updated: Tensor = self.body(x, vector, layout.mask, self.bias(layout.pairs).to(dtype))
        return updated


class SideInterpolater(nn.Module):
    """Puts one learned token at every hidden position and lets a block of its own turn it into a guess. Visible tokens are
    returned as they came."""

    def __init__(self, width: int, heads: int, grid: Grid, qk_norm: QkNorm) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.block = MDTv2Block(width, heads, grid, qk_norm)

    def forward(self, x: Tensor, visible: Tensor, positions: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        """Fill in the hidden tokens.

        Args:
            x: The visible tokens [B, K, D].
            visible: Their indices among all N tokens, [B, K].
            positions: Position vectors of all tokens, [N, D].
            vector: The activated modulation [B, D].
            layout: Layout of all tokens.

        Returns:
            All tokens [B, N, D].
        """
        B, N, D = len(x), *positions.shape
        index = visible.unsqueeze(2)
        x = self.mask_token.expand(B, N, D).scatter(1, index.expand(-1, -1, D), x) + positions
        hidden = torch.ones(B, N, 1, dtype=torch.bool, device=x.device).scatter(1, index, False)
        return torch.where(hidden, self.block(x, vector, layout), x)


class MDTv2(Denoiser):
    """The network of the module's docstring. Its tables have the size of `slots.latent_size`, and are resized for other
    latents."""

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

        given = shape.width, shape.heads, grid, config.qk_norm

        def blocks(count: int, has_shortcut: bool) -> nn.ModuleList:
            return nn.ModuleList(MDTv2Block(*given, has_shortcut) for _ in range(count))

        self.in_blocks, self.out_blocks = blocks(half, has_shortcut=False), blocks(half, has_shortcut=True)
        self.side = None if config.mask_ratio is None else SideInterpolater(*given)
        self.decoder_blocks = blocks(config.decoder_depth, has_shortcut=True)
        self.final_layer = FinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions, visible: Tensor | None = None) -> Prediction:
        """See `Denoiser.forward`. `visible` [B, K]: indices of the image tokens that the encoder sees, counted row by row; None
        for all."""
        grid = grid_of(x_t, self.patch)
        tokens, layout = self._tokens(x_t, grid, conditions)  # [B, T + L, D]
        vector = F.silu(self.time_embedding(time) + conditions.modulation).to(self.compute_dtype)  # [B, D]
        T, length = grid[0] * grid[1], tokens.shape[1]
        positions = F.pad(self.decoder_positions(grid), (0, 0, 0, length - T))  # [T + L, D], zero for the context
        if visible is None:
            x = self._encode(tokens, vector, layout) + positions  # [B, T + L, D]
        else:
            context = torch.arange(T, length, device=visible.device).expand(len(visible), -1)  # [B, L]
            x = self._encode_part(tokens, torch.cat([visible, context], dim=1), positions, vector, layout)  # [B, T + L, D]
        shortcut = tokens.to(vector.dtype)
        for block in self.decoder_blocks:
            x = block(x, vector, layout, shortcut)
        out = self.final_layer(x[:, :T], vector)  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def block_modules(self) -> Sequence[nn.Module]:
        """See `Denoiser.block_modules`. The side block takes part in the masked pass only."""
        side = [] if self.side is None else [self.side.block]
        return [*self.in_blocks, *self.out_blocks, *side, *self.decoder_blocks]

    def layers(self) -> Sequence[Layer]:
        """See `Denoiser.layers`."""
        blocks = [*self.in_blocks, *self.out_blocks, *self.decoder_blocks]
        return [Layer(block, self.patch_embedding.proj.out_features, self.patch) for block in blocks]

    def context_attentions(self) -> Sequence[ContextAttention]:
        """See `Denoiser.context_attentions`. The side block is not among them: only the masked pass runs it."""
        if self.context_embedding is None:
            return ()
        blocks = [*self.in_blocks, *self.out_blocks, *self.decoder_blocks]
        return [ContextAttention(block.body.attention.attention, keys="last") for block in blocks]

    def training_passes(self, draws: Draws) -> Sequence[TrainingPass]:
        """Return the network as it samples, and a pass over the same x_0 and t in which it sees a part of the tokens.

        The share of hidden tokens, mask_ratio + mask_spread u with u uniform in [0, 1), is one for the whole global batch; each
        picture draws which tokens are hidden. Differs from the paper, where each process draws a share of its own.
        """
        if self.config.mask_ratio is None:
            return super().training_passes(draws)
        hidden = self.config.mask_ratio + self.config.mask_spread * draws.shared_uniform("mask ratio")

        def masked(x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
            """Predict from the visible tokens alone."""
            rows, columns = grid_of(x_t, self.patch)
            order = draws.uniform("mask", (rows * columns,)).argsort(dim=1, stable=True)
            visible = order[:, : max(1, int(rows * columns * (1 - hidden)))]
            prediction: Prediction = self(x_t, time, conditions, visible)
            return prediction

        return TrainingPass(self), TrainingPass(masked, noise="noise masked")

    def _tokens(self, x_t: Tensor, grid: Grid, conditions: Conditions) -> tuple[Tensor, Layout]:
        """Embed image tokens, then context tokens, [B, T + L, D], with their layout."""
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid)  # [B, T, D]
        if self.context_embedding is None or conditions.context is None:
            return x, Layout(token_pairs(grid, 0, x.device), None)
        context = self.context_embedding(conditions.context.to(self.compute_dtype))  # [B, L, D]
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

    def _encode_part(self, tokens: Tensor, visible: Tensor, positions: Tensor, vector: Tensor, layout: Layout) -> Tensor:
        """Encode the tokens of the indices `visible` [B, K], and fill in the others: [B, N, D]."""
        if self.side is None:
            raise ValueError("this MDTv2 was built without a masked pass (mask_ratio null)")
        part = tokens.gather(1, visible.unsqueeze(2).expand(-1, -1, tokens.shape[2]))  # [B, K, D]
        encoded = self._encode(part, vector, layout.select(visible))  # [B, K, D]
        x: Tensor = self.side(encoded, visible, positions, vector, layout)  # [B, N, D]
        return x


def _sinusoidal(grid: Grid, width: int) -> Tensor:
    """Compute the initial values of a learned position table, [T, D]."""
    return computed_table(GridPositions(), grid, width).float()
