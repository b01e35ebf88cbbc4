"""DiT: a transformer over patches, modulated by adaLN-zero (Peebles & Xie 2023, figure 3).

Context tokens, when the conditioning uses that slot, stand behind the image tokens in self-attention and are dropped at the
end. Without them the network is the published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.denoisers.base import BOTH_SLOTS, ContextAttention, Layer, Prediction, Slots, TransformerConfig
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, unpatchify
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer, Mlp, Modulation, modulated_norm
from open_ldm.denoisers.blocks.positions import Positions
from open_ldm.denoisers.blocks.rms_norm import QkNorm
from open_ldm.denoisers.blocks.self_attention import SelfAttention
from open_ldm.denoisers.routed import RoutedDenoiser


class DiTConfig(TransformerConfig):
    """DiT-{XS,S,B,L,XL}/{patch}.

    `time_frequency_shift` 1: the time features of diffusers' DiT, which differ from the published network's, for weights that
    were trained there.
    """

    reads_slots: ClassVar[frozenset[Slot]] = BOTH_SLOTS

    kind: Literal["dit"] = "dit"
    time_frequency_shift: Literal[0, 1] = 0


class DiTBlock(nn.Module):
    """x += gate Attention(norm x); x += gate MLP(norm x), all six vectors from the modulation."""

    def __init__(self, width: int, heads: int, qk_norm: QkNorm = "none") -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm)
        self.mlp = Mlp(width)
        self.modulation = Modulation(width, 6)

    def forward(self, x: Tensor, vector: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Update the residual stream.

        Args:
            x: Tokens [B, T, D], float32.
            vector: The activated modulation [B, D].
            mask: bool [B, T], False for tokens that are not attended; None attends all.
            bias: Added to the attention's logits, [1 or B, heads, T, T].

        Returns:
            [B, T, D], float32.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(vector)
        x = torch.addcmul(x, gate_a, self.attention(modulated_norm(x, shift_a, scale_a), mask, bias))
        return torch.addcmul(x, gate_m, self.mlp(modulated_norm(x, shift_m, scale_m)))


class DiT(RoutedDenoiser):
    """The network of the module's docstring."""

    def __init__(self, config: DiTConfig, slots: Slots) -> None:
        super().__init__()
        shape = config.geometry
        self.slots, self.patch, self.routing = slots, config.patch, config.routing
        self.patch_embedding = PatchEmbedding(slots.channels, config.patch, shape.width)
        self.positions = Positions(config.positions, shape.width)
        self.time_embedding = TimeEmbedding(shape.width, config.time_frequency_shift)
        self.context_embedding = Linear(slots.context_dim, shape.width) if slots.context_dim else None
        self.blocks = nn.ModuleList(DiTBlock(shape.width, shape.heads, config.qk_norm) for _ in range(shape.depth))
        self.final_layer = FinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions, kept: Tensor | None = None) -> Prediction:
        """See `Denoiser.forward`. `kept` [B, K]: indices of the image tokens that the middle blocks see; None for all."""
        grid = grid_of(x_t, self.patch)
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid, x_t.device)  # [B, T, D]
        vector = F.silu(self.time_embedding(time) + conditions.modulation).to(self.compute_dtype)  # [B, D]
        T, mask = x.shape[1], None
        route = self.route(kept, T)
        if self.context_embedding is not None and conditions.context is not None:
            context = self.context_embedding(conditions.context.to(self.compute_dtype))  # [B, L, D]
            x = torch.cat([x, context.to(x.dtype)], dim=1)  # [B, T + L, D]
            mask = _with_image(conditions.context_mask, T)
        for i, block in enumerate(self.blocks):
            x = route.before(i, x)  # [B, T + L, D]; routed, [B, K + L, D] in the middle
            x = block(x, vector, None if mask is None else mask[:, -x.shape[1] :])
        out = self.final_layer(x[:, :T], vector)  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def block_modules(self) -> Sequence[nn.Module]:
        """See `Denoiser.block_modules`."""
        return list(self.blocks)

    def layers(self) -> Sequence[Layer]:
        """See `Denoiser.layers`."""
        return [Layer(block, self.patch_embedding.proj.out_features, self.patch) for block in self.blocks]

    def context_attentions(self) -> Sequence[ContextAttention]:
        """See `Denoiser.context_attentions`."""
        if self.context_embedding is None:
            return ()
        blocks: list[Any] = list(self.blocks)
        return [ContextAttention(block.attention.attention, keys="last") for block in blocks]


def _with_image(context_mask: Tensor | None, T: int) -> Tensor | None:
    """Extend a mask [B, L] of context tokens to [B, T + L]: image tokens are always attended."""
    return None if context_mask is None else F.pad(context_mask, (T, 0), value=True)
