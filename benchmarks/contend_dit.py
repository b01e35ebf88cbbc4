"""DiT against diffusers' DiTTransformer2DModel: a class by modulation."""

from __future__ import annotations

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from contender import CHANNELS, CLASSES, PATCH, Comparison, Contender, Setting, as_people_train, peer_geometry
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import ViewShape
from open_ldm.denoisers import DiTConfig
from open_ldm.denoisers.base import SIZES
from open_ldm.model.diffusion import build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.schedules import LinearSchedule


def dit(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    """Both sides on the same labels."""
    labels = torch.randint(CLASSES, (setting.batch,), device=x_t.device)
    kept = torch.ones_like(labels, dtype=torch.bool)
    spec = ModelSpec(
        ProcessConfig(schedule=LinearSchedule(), prediction="eps"),
        ConditioningConfig(semantic=ClassSemantic(route="modulation")),
        DiTConfig(size=setting.size, patch=PATCH),
        DataFacts(CHANNELS, ViewShape(256, 256, 256), tuple(str(label) for label in range(CLASSES))),
    )
    model = build_model(spec, seed=0)
    model = model.to(x_t.device).compute_in(setting.dtype)
    inputs = ConditionInputs(keep_semantic=kept, keep_control=kept, labels=labels)
    ours = Contender("open-ldm", model, lambda: model.predict(x_t, t, inputs).mean, eps)
    return Comparison(ours, dit_peer(setting, x_t, eps, t, labels))


def dit_peer(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor, labels: Tensor) -> Contender:
    """diffusers' class-conditional DiT."""
    shape = SIZES[setting.size]
    peer = DiTTransformer2DModel(**peer_geometry(shape, setting.side), out_channels=CHANNELS, norm_eps=1e-6)
    for block in peer.transformer_blocks[1:]:
        # diffusers stores the time MLP and class table once per block; sharing them gives the published parameter count
        # and spares the peer their optimiser steps.
        block.norm1.emb = peer.transformer_blocks[0].norm1.emb
    peer.eval().to(x_t.device)  # its only use of train mode is to drop labels
    steps = (t * 999).round().long()

    def predict() -> Tensor:
        with as_people_train(setting):
            out: Tensor = peer(x_t, timestep=steps, class_labels=labels, return_dict=False)[0]
        return out

    return Contender("diffusers", peer, predict, eps)
