"""mmDiT: image and context tokens with weights of their own, joined in attention (Esser et al. 2024, Stable Diffusion 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning.inputs import Conditions
from open_ldm.denoisers.base import Denoiser, Prediction, Slots, TransformerConfig
from open_ldm.denoisers.blocks.attention import attend, merge_heads, split_heads
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, TimeEmbedding, grid_of, unpatchify
from open_ldm.denoisers.blocks.initialise import initialise
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer, Mlp, Modulation, RMSNorm, modulated_norm
from open_ldm.denoisers.blocks.positions import Positions


class MMDiTConfig(TransformerConfig):
    """mmDiT-{XS,S,B,L,XL}/{patch}. `qk_norm` rms: SD3.5's normalised queries and keys, for stability in bf16."""

    kind: Literal["mmdit"] = "mmdit"
    qk_norm: Literal["none", "rms"] = "none"


class Stream(nn.Module):
    """One of the two token streams of a joint block: its own norms, modulation, q/k/v, projection and MLP.

    The last block's context stream only gives q, k and v (`gives_only`): nothing reads what it would become.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool, gives_only: bool = False) -> None:
        super().__init__()
        self.heads, self.gives_only = heads, gives_only
        self.modulation = Modulation(width, 2 if gives_only else 6)
        self.qkv = Linear(width, 3 * width)
        self.norm_q = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.norm_k = RMSNorm(width // heads) if qk_norm else nn.Identity()
        if not gives_only:
            self.proj = Linear(width, width)
            self.mlp = Mlp(width)

    def give(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, heads, T, head_dim] of this stream's tokens [B, T, D]."""
        q, k, v = split_heads(self.qkv(modulated_norm(x, shift, scale)), self.heads)
        return self.norm_q(q), self.norm_k(k), v

    def take(self, x: Tensor, attended: Tensor, vectors: tuple[Tensor, ...]) -> Tensor:
        """Residual updates of this stream from what attention returned."""
        gate_a, shift_m, scale_m, gate_m = vectors
        x = torch.addcmul(x, gate_a, self.proj(attended))
        return torch.addcmul(x, gate_m, self.mlp(modulated_norm(x, shift_m, scale_m)))


class JointBlock(nn.Module):
    """One attention over [context, image]; everything else per stream."""

    def __init__(self, width: int, heads: int, qk_norm: bool, last: bool) -> None:
        super().__init__()
        self.image = Stream(width, heads, qk_norm)
        self.context = Stream(width, heads, qk_norm, gives_only=last)

    def forward(self, x: Tensor, context: Tensor, vector: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x [B, T, D], context [B, L, D], both float32; activated modulation [B, D]; mask [B, L + T]."""
        image_vectors, context_vectors = self.image.modulation(vector), self.context.modulation(vector)
        given = zip(self.context.give(context, *context_vectors[:2]), self.image.give(x, *image_vectors[:2]), strict=True)
        q, k, v = (torch.cat(pair, dim=2) for pair in given)  # [B, heads, L + T, head_dim]
        attended = merge_heads(attend(q, k, v, mask))  # [B, L + T, D]
        length = context.shape[1]
        x = self.image.take(x, attended[:, length:], image_vectors[2:])
        if not self.context.gives_only:
            context = self.context.take(context, attended[:, :length], context_vectors[2:])
        return x, context


class MMDiT(Denoiser):
    """See the module's docstring. Without a context slot it attends to one learned token in its place."""

    def __init__(self, config: MMDiTConfig, slots: Slots) -> None:
        super().__init__()
        shape = config.geometry
        self.slots, self.patch = slots, config.patch
        self.patch_embedding = PatchEmbedding(slots.channels, config.patch, shape.width)
        self.positions = Positions(config.positions, shape.width)
        self.time_embedding = TimeEmbedding(shape.width)
        if slots.context_dim is None:
            self.no_context = nn.Parameter(torch.randn(1, 1, shape.width) * 0.02)
        else:
            self.context_embedding = Linear(slots.context_dim, shape.width)
        self.blocks = nn.ModuleList(
            JointBlock(shape.width, shape.heads, config.qk_norm == "rms", last=i == shape.depth - 1) for i in range(shape.depth)
        )
        self.final_layer = FinalLayer(shape.width, config.patch**2 * slots.output_channels)
        initialise(self)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        """See `Denoiser.forward`."""
        grid = grid_of(x_t, self.patch)
        x = self.patch_embedding(x_t.to(self.compute_dtype)) + self.positions(grid, x_t.device)  # [B, T, D]
        vector = F.silu(self.time_embedding(time) + conditions.modulation).to(self.compute_dtype)  # [B, D]
        context = self._context(conditions, len(x)).to(x.dtype)  # [B, L, D]
        mask = conditions.context_mask
        if mask is not None:
            mask = F.pad(mask, (0, x.shape[1]), value=True)  # [B, L + T]
        for block in self.blocks:
            x, context = block(x, context, vector, mask)
        out = self.final_layer(x, vector)  # [B, T, p p C]
        return self.split(unpatchify(out.float(), grid, self.patch), self.slots)

    def _context(self, conditions: Conditions, batch: int) -> Tensor:
        if self.slots.context_dim is None:
            return self.no_context.expand(batch, -1, -1)
        if conditions.context is None:
            raise ValueError("this mmDiT was built with a context slot and got no context")
        embedded: Tensor = self.context_embedding(conditions.context.to(self.compute_dtype))
        return embedded
