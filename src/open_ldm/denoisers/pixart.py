"""PixArt-alpha: a DiT that shares one modulation between its blocks and reads the context by cross-attention
(Chen et al. 2023, arXiv 2310.00426, figure 4).

adaLN-single (section 2.3): one SiLU and linear layer turns the time embedding into the six vectors of a block, and each block
adds a small table of its own. Without a context slot the blocks have no cross-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.denoisers.base import BOTH_SLOTS, ContextAttention, Layer, Prediction, Slots, TransformerConfig
from open_ldm.denoisers.blocks.activation import tanh_gelu
from open_ldm.denoisers.blocks.cross_attention import CrossAttention
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, unpatchify
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import Mlp, Modulation, modulated_norm
from open_ldm.denoisers.blocks.positions import Positions
from open_ldm.denoisers.blocks.rms_norm import QkNorm
from open_ldm.denoisers.blocks.self_attention import SelfAttention
from open_ldm.denoisers.routed import RoutedDenoiser


class PixArtConfig(TransformerConfig):
    """PixArt-{XS,S,B,L,XL}/{patch}.

    `positions`: PixArt's table is {kind: grid, base: B} with B = (patches a side of the trained size) / its `lewei_scale`;
    32 for the released weights of 256, 512 and 1024 px alike. `qk_norm` holds for self- and cross-attention.
    """

    reads_slots: ClassVar[frozenset[Slot]] = BOTH_SLOTS

    kind: Literal["pixart"] = "pixart"


class Table(nn.Module):
    """`count` vectors of width D that a block adds to what all blocks share."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, width) * width**-0.5)

    def forward(self, shared: Tensor) -> tuple[Tensor, ...]:
        """Add the table: [B, count, D], or [B, 1, D] for one vector added to all, -> `count` vectors [B, 1, D] of its dtype."""
        return (self.vectors + shared).to(shared.dtype).chunk(len(self.vectors), dim=1)


class ContextProjection(nn.Module):
    """Context tokens to the network's width: Linear, tanh-GELU, Linear."""

    def __init__(self, context_dim: int, width: int) -> None:
        super().__init__()
        self.fc1 = Linear(context_dim, width)
        self.fc2 = Linear(width, width)

    def forward(self, context: Tensor) -> Tensor:
        """Map [B, L, context_dim] to [B, L, D]."""
        projected: Tensor = self.fc2(tanh_gelu(self.fc1(context)))
        return projected


class PixArtBlock(nn.Module):
    """x += gate Attention(norm x); x += CrossAttention(x, context), neither normed nor gated; x += gate MLP(norm x)."""

    def __init__(self, width: int, heads: int, has_context: bool, qk_norm: QkNorm) -> None:
        super().__init__()
        self.table = Table(6, width)
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm)
        self.cross_attention = CrossAttention(width, heads, context_dim=width, qk_norm=qk_norm) if has_context else None
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, shared: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """Update the residual stream.

        Args:
            x: Tokens [B, T, D], float32.
            shared: The modulation that all blocks share, [B, 6, D].
            context: [B, L, D]; None for a block without cross-attention.
            mask: bool [B, L], False for context tokens that are not attended; None attends all.

        Returns:
            [B, T, D], float32.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.table(shared)
        x = torch.addcmul(x, gate_a, self.attention(modulated_norm(x, shift_a, scale_a)))
        if self.cross_attention is not None:
            x = x + self.cross_attention(x.to(shared.dtype), context, mask)
        return torch.addcmul(x, gate_m, self.mlp(modulated_norm(x, shift_m, scale_m)))


class PixArtFinalLayer(nn.Module):
    """Modulated norm, then tokens -> p p C numbers per patch. Its modulation is a table + the time embedding, not activated."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.table = Table(2, width)
        self.linear = Linear(width, outputs)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Map tokens [B, T, D] to [B, T, outputs], given the time embedding [B, D]."""
        shift, scale = self.table(vector.unsqueeze(1))
        projected: Tensor = self.linear(modulated_norm(x, shift, scale))
        return projected


class PixArt(RoutedDenoiser):
    """The network of the module's docstring. `conditions.modulation` is added to the time embedding, as PixArt adds the size
    and aspect ratio."""

    def __init__(self, config: PixArtConfig, slots: Slots) -> None:
        super().__init__()
        shape = config.geometry
        self.slots, self.patch, self.routing = slots, config.patch, config.routing
        self.patch_embedding = PatchEmbedding(slots.channels, config.patch, shape.width)
        self.positions = Positions(config.positions, shape.width)
        self.time_embedding = TimeEmbedding(shape.width)
        self.modulation = Modulation(shape.width, 6)
        self.context_projection = ContextProjection(slots.context_dim, shape.width) if slots.context_dim else None
        self.blocks = nn.ModuleList(
            PixArtBlock(shape.width, shape.heads, slots.context_dim is not None, config.qk_norm) for _ in range(shape.depth)
        )
        self.final_layer = PixArtFinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)
        self._initialise()

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions, kept: Tensor | None = None) -> Prediction:
        """See `Denoiser.forward`. `kept` [B, K]: indices of the image tokens that the middle blocks see; None for all."""
        grid = grid_of(x_t, self.patch)
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid, x_t.device)  # [B, T, D]
        vector = self.time_embedding(time) + conditions.modulation  # [B, D]
        shared = torch.cat(self.modulation(F.silu(vector)), dim=1).to(self.compute_dtype)  # [B, 6, D]
        context = self._context(conditions)  # [B, L, D]
        route = self.route(kept, x.shape[1])
        for i, block in enumerate(self.blocks):
            x = route.before(i, x)  # [B, T, D]; routed, [B, K, D] in the middle
            x = block(x, shared, context, conditions.context_mask)
        out = self.final_layer(x, vector.to(self.compute_dtype))  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def block_modules(self) -> Sequence[nn.Module]:
        """See `Denoiser.block_modules`."""
        return list(self.blocks)

    def layers(self) -> Sequence[Layer]:
        """See `Denoiser.layers`."""
        return [Layer(block, self.patch_embedding.proj.out_features, self.patch) for block in self.blocks]

    def context_attentions(self) -> Sequence[ContextAttention]:
        """See `Denoiser.context_attentions`."""
        blocks: list[Any] = list(self.blocks)
        crosses = (block.cross_attention for block in blocks)
        return [ContextAttention(cross.attention, keys="all") for cross in crosses if cross is not None]

    def _context(self, conditions: Conditions) -> Tensor | None:
        if self.context_projection is None:
            return None
        if conditions.context is None:
            raise ValueError("this PixArt was built with a context slot and got no context")
        projected: Tensor = self.context_projection(conditions.context.to(self.compute_dtype))
        return projected

    @torch.no_grad()
    def _initialise(self) -> None:
        """Set what PixArt initialises otherwise than DiT: modulation and context projection N(0, 0.02), cross-attention zero.

        The bias of the patch embedding starts as that of a convolution. The final layer is zero, so an untrained network
        predicts exactly zero.
        """
        patches = self.patch_embedding.proj
        nn.init.uniform_(patches.bias, -(patches.in_features**-0.5), patches.in_features**-0.5)
        nn.init.normal_(self.modulation.linear.weight, std=0.02)
        nn.init.zeros_(self.final_layer.linear.weight)
        if self.context_projection is not None:
            nn.init.normal_(self.context_projection.fc1.weight, std=0.02)
            nn.init.normal_(self.context_projection.fc2.weight, std=0.02)
        for part in self.modules():
            if isinstance(part, CrossAttention):
                nn.init.zeros_(part.proj.weight)
