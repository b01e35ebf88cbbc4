"""mmDiT against diffusers' SD3Transformer2DModel: 77 text tokens and a pooled vector."""

from __future__ import annotations

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from contender import CHANNELS, PATCH, Comparison, Contender, Setting, Size, as_people_train, peer_geometry
from open_ldm.conditioning import Conditions
from open_ldm.denoisers import MMDiTConfig, Slots, build_denoiser
from open_ldm.denoisers.base import SIZES

CONTEXT_TOKENS, CONTEXT_DIM, POOLED_DIM = 77, 2048, 1280


class _WithPooled(nn.Module):
    """mmDiT with an MLP for the pooled text vector, as Stable Diffusion 3."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = SIZES[size].width
        self.pooled = nn.Sequential(nn.Linear(POOLED_DIM, width), nn.SiLU(), nn.Linear(width, width))
        self.denoiser = build_denoiser(MMDiTConfig(size=size, patch=PATCH), Slots(CHANNELS, CONTEXT_DIM))

    def forward(self, x_t: Tensor, time: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        mean: Tensor = self.denoiser(x_t, time, Conditions(self.pooled(pooled), context)).mean
        return mean


def mmdit(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    """Both sides on the same tokens and pooled vectors."""
    context = torch.randn(setting.batch, CONTEXT_TOKENS, CONTEXT_DIM, device=x_t.device)
    pooled, time = torch.randn(setting.batch, POOLED_DIM, device=x_t.device), t * 1000
    model = _WithPooled(setting.size).to(x_t.device)
    model.denoiser.compute_dtype = setting.dtype
    ours = Contender("open-ldm", model, lambda: model(x_t, time, context, pooled), eps)

    shape = SIZES[setting.size]
    peer = SD3Transformer2DModel(
        **peer_geometry(shape, setting.side),
        out_channels=CHANNELS,
        joint_attention_dim=CONTEXT_DIM,
        caption_projection_dim=shape.width,
        pooled_projection_dim=POOLED_DIM,
        pos_embed_max_size=setting.side // PATCH,
    ).to(x_t.device)

    def predict() -> Tensor:
        with as_people_train(setting):
            out: Tensor = peer(x_t, context, pooled, time, return_dict=False)[0]
        return out

    return Comparison(ours, Contender("diffusers", peer, predict, eps))
