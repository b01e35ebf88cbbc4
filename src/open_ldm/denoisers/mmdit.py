"""mmDiT: image and context tokens with weights of their own, joined in attention (Esser et al. 2024, figure 2; SD3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions, Slot
from open_ldm.denoisers.base import BOTH_SLOTS, ContextAttention, Layer, Prediction, Slots, TransformerConfig
from open_ldm.denoisers.blocks.attention import Attention, merge_heads, split_heads
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, unpatchify
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer, Mlp, Modulation, modulated_norm
from open_ldm.denoisers.blocks.positions import Positions
from open_ldm.denoisers.blocks.rms_norm import QkNorm, head_norm
from open_ldm.denoisers.routed import RoutedDenoiser


class MMDiTConfig(TransformerConfig):
    """mmDiT-{XS,S,B,L,XL}/{patch}. `qk_norm` rms is SD3.5's, with weights for each stream."""

    later_settings: ClassVar[tuple[str, ...]] = ("routing",)

    reads_slots: ClassVar[frozenset[Slot]] = BOTH_SLOTS

    kind: Literal["mmdit"] = "mmdit"


class Stream(nn.Module):
    """One of the two token streams of a joint block: its own norms, modulation, q/k/v, projection and MLP.

    A stream that is `context_pre_only`, the last block's context, only provides q, k and v: nothing reads what it would become.
    """

    def __init__(self, width: int, heads: int, qk_norm: QkNorm, context_pre_only: bool = False) -> None:
        super().__init__()
        self.heads, self.context_pre_only = heads, context_pre_only
        self.modulation = Modulation(width, 2 if context_pre_only else 6)
        self.qkv = Linear(width, 3 * width, parts=3)
        self.norm_q = head_norm(qk_norm, width, heads)
        self.norm_k = head_norm(qk_norm, width, heads)
        if not context_pre_only:
            self.proj = Linear(width, width)
            self.mlp = Mlp(width)

    def project_qkv(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute q, k, v [B, heads, T, head_dim] of this stream's tokens [B, T, D]."""
        q, k, v = split_heads(self.qkv(modulated_norm(x, shift, scale)), self.heads, parts=3)
        return self.norm_q(q), self.norm_k(k), v

    def update(self, x: Tensor, attended: Tensor, vectors: tuple[Tensor, ...]) -> Tensor:
        """Add what attention returned and the MLP to this stream.

        Args:
            x: The stream's tokens [B, T, D], float32.
            attended: What attention returned for them, [B, T, D].
            vectors: Gate of the attention, then shift, scale and gate of the MLP, each [B, 1, D].

        Returns:
            [B, T, D], float32.
        """
        gate_a, shift_m, scale_m, gate_m = vectors
        x = torch.addcmul(x, gate_a, self.proj(attended))
        return torch.addcmul(x, gate_m, self.mlp(modulated_norm(x, shift_m, scale_m)))


class JointBlock(nn.Module):
    """One attention over [context, image]; everything else per stream (Esser et al. 2024, figure 2b)."""

    def __init__(self, width: int, heads: int, qk_norm: QkNorm, last: bool) -> None:
        super().__init__()
        self.image = Stream(width, heads, qk_norm)
        self.context = Stream(width, heads, qk_norm, context_pre_only=last)
        self.attention = Attention()

    def forward(self, x: Tensor, context: Tensor, vector: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Update both streams.

        Args:
            x: Image tokens [B, T, D], float32.
            context: Context tokens [B, L, D], float32.
            vector: The activated modulation [B, D].
            mask: bool [B, L + T], False for tokens that are not attended; None attends all.

        Returns:
            Image and context tokens; those of the context as they came where the stream is `context_pre_only`.
        """
        image_vectors, context_vectors = self.image.modulation(vector), self.context.modulation(vector)
        context_qkv = self.context.project_qkv(context, *context_vectors[:2])  # [B, heads, L, head_dim] each
        image_qkv = self.image.project_qkv(x, *image_vectors[:2])  # [B, heads, T, head_dim] each
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(context_qkv, image_qkv, strict=True))  # [B, heads, L + T, head_dim]
        attended = merge_heads(self.attention(q, k, v, mask))  # [B, L + T, D]
        L = context.shape[1]
        x = self.image.update(x, attended[:, L:], image_vectors[2:])
        if not self.context.context_pre_only:
            context = self.context.update(context, attended[:, :L], context_vectors[2:])
        return x, context


class MMDiT(RoutedDenoiser):
    """The network of the module's docstring. Without a context slot one learned token stands for the context."""

    def __init__(self, config: MMDiTConfig, slots: Slots) -> None:
        super().__init__()
        shape = config.geometry
        self.slots, self.patch, self.routing = slots, config.patch, config.routing
        self.patch_embedding = PatchEmbedding(slots.channels, config.patch, shape.width)
        self.positions = Positions(config.positions, shape.width)
        self.time_embedding = TimeEmbedding(shape.width)
        if slots.context_dim is None:
            self.no_context = nn.Parameter(torch.randn(1, 1, shape.width) * 0.02)
        else:
            self.context_embedding = Linear(slots.context_dim, shape.width)
        self.blocks = nn.ModuleList(
            JointBlock(shape.width, shape.heads, config.qk_norm, last=i == shape.depth - 1) for i in range(shape.depth)
        )
        self.final_layer = FinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions, kept: Tensor | None = None) -> Prediction:
        """See `Denoiser.forward`. `kept` [B, K]: indices of the image tokens that the middle blocks see; None for all."""
        grid = grid_of(x_t, self.patch)
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid, x_t.device)  # [B, T, D]
        vector = F.silu(self.time_embedding(time) + conditions.modulation).to(self.compute_dtype)  # [B, D]
        context = self._context(conditions, len(x)).to(x.dtype)  # [B, L, D]
        mask = conditions.context_mask
        if mask is not None:
            mask = F.pad(mask, (0, x.shape[1]), value=True)  # [B, L + T]
        L, route = context.shape[1], self.route(kept, x.shape[1])
        for i, block in enumerate(self.blocks):
            x = route.before(i, x)  # [B, T, D]; routed, [B, K, D] in the middle
            x, context = block(x, context, vector, None if mask is None else mask[:, : L + x.shape[1]])
        out = self.final_layer(x, vector)  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def block_modules(self) -> Sequence[nn.Module]:
        """See `Denoiser.block_modules`."""
        return list(self.blocks)

    def layers(self) -> Sequence[Layer]:
        """See `Denoiser.layers`."""
        return [Layer(block, self.patch_embedding.proj.out_features, self.patch) for block in self.blocks]

    def context_attentions(self) -> Sequence[ContextAttention]:
        """See `Denoiser.context_attentions`."""
        if self.slots.context_dim is None:
            return ()
        blocks: list[Any] = list(self.blocks)
        return [ContextAttention(block.attention, keys="first") for block in blocks]

    def _context(self, conditions: Conditions, batch: int) -> Tensor:
        if self.slots.context_dim is None:
            return self.no_context.expand(batch, -1, -1)
        if conditions.context is None:
            raise ValueError("this mmDiT was built with a context slot and got no context")
        embedded: Tensor = self.context_embedding(conditions.context.to(self.compute_dtype))
        return embedded
