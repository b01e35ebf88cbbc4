"""LDM's UNet against diffusers' UNet2DConditionModel: classes as one context token of 512, as LDM-4-G was published."""

from __future__ import annotations

import torch
from torch import Tensor

from contender import CHANNELS, CLASSES, Comparison, Contender, Setting, as_people_train
from open_ldm.conditioning import ConditioningConfig, Conditions
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import ViewShape
from open_ldm.denoisers import Slots, UNetConfig, build_denoiser
from open_ldm.interop.unet import UNetFamily
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig

TOKEN_WIDTH = 512


def unet(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    """Both sides on the same class tokens."""
    config, device, steps = UNetConfig(size=setting.size), x_t.device, t * 999
    context = torch.randn(setting.batch, 1, TOKEN_WIDTH, device=device)
    conditions = Conditions(torch.zeros(setting.batch, config.modulation_dim, device=device), context)
    model = build_denoiser(config, Slots(CHANNELS, TOKEN_WIDTH)).to(device)
    model.compute_dtype = setting.dtype
    ours = Contender("open-ldm", model, lambda: model(x_t, steps, conditions).mean, eps)

    names = tuple(str(label) for label in range(CLASSES))
    facts = DataFacts(CHANNELS, ViewShape(256, 256, 256), names, latent_size=(setting.side, setting.side))
    by_class = ConditioningConfig(semantic=ClassSemantic(width=TOKEN_WIDTH))
    peer = UNetFamily().peer(ModelSpec(ProcessConfig(), by_class, config, facts)).to(device)

    def predict() -> Tensor:
        with as_people_train(setting):
            out: Tensor = peer(x_t, steps, context, return_dict=False)[0]
        return out

    return Comparison(ours, Contender("diffusers", peer, predict, eps))
