"""PixArt against diffusers' PixArtTransformer2DModel: 120 caption tokens of T5-v1.1-XXL's width, masked where padded."""

from __future__ import annotations

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from contender import CHANNELS, Comparison, Contender, Setting, as_people_train, peer_geometry
from open_ldm.conditioning import Conditions
from open_ldm.denoisers import PixArtConfig, Slots, build_denoiser
from open_ldm.denoisers.base import SIZES

TOKENS, TOKEN_WIDTH = 120, 4096


def pixart(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    """Both sides on the same captions of 1 to 120 tokens."""
    shape, device = SIZES[setting.size], x_t.device
    context = torch.randn(setting.batch, TOKENS, TOKEN_WIDTH, device=device)
    mask = torch.arange(TOKENS, device=device) < torch.randint(1, TOKENS + 1, (setting.batch, 1), device=device)
    steps = t * 999
    conditions = Conditions(torch.zeros(setting.batch, shape.width, device=device), context, mask)
    model = build_denoiser(PixArtConfig(size=setting.size), Slots(CHANNELS, TOKEN_WIDTH)).to(device)
    model.compute_dtype = setting.dtype
    ours = Contender("open-ldm", model, lambda: model(x_t, steps, conditions).mean, eps)

    peer = PixArtTransformer2DModel(
        **peer_geometry(shape, setting.side),
        out_channels=CHANNELS,
        cross_attention_dim=shape.width,
        caption_channels=TOKEN_WIDTH,
        use_additional_conditions=False,
        interpolation_scale=1,
    ).to(device)
    nothing_added = {"resolution": None, "aspect_ratio": None}

    def predict() -> Tensor:
        with as_people_train(setting):
            out: Tensor = peer(
                x_t,
                context,
                timestep=steps,
                added_cond_kwargs=nothing_added,
                encoder_attention_mask=mask.float(),
                return_dict=False,
            )[0]
        return out

    return Comparison(ours, Contender("diffusers", peer, predict, eps))
