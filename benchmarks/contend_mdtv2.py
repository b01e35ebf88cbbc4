"""MDTv2's whole training step, a plain and a masked pass, against diffusers' DiT of the same named size, per operation."""

from __future__ import annotations

import torch
from torch import Tensor

from contend_dit import dit_peer
from contender import CHANNELS, CLASSES, PATCH, Comparison, Contender, Setting
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import ViewShape
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import MDTv2Config
from open_ldm.model.diffusion import build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.schedules import LinearSchedule

HIDDEN = 0.4
"""Share of tokens the masked pass hides here; in training it varies about this, from 0.3 to 0.5."""


def mdtv2(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    """Both of our passes see the same x_t, which costs what two of them would."""
    labels = torch.randint(CLASSES, (setting.batch,), device=x_t.device)
    kept = torch.ones_like(labels, dtype=torch.bool)
    classes = tuple(str(label) for label in range(CLASSES))
    spec = ModelSpec(
        ProcessConfig(schedule=LinearSchedule(), prediction="eps"),
        ConditioningConfig(semantic=ClassSemantic(route="modulation")),
        MDTv2Config(size=setting.size, patch=PATCH, mask_ratio=HIDDEN, mask_spread=0),
        DataFacts(CHANNELS, ViewShape(256, 256, 256), classes, latent_size=(setting.side, setting.side)),
    )
    model = build_model(spec, seed=0)
    model = model.to(x_t.device).compute_in(setting.dtype)
    inputs = ConditionInputs(keep_semantic=kept, keep_control=kept, labels=labels)
    draws = Draws(0, tuple(range(setting.batch)), setting.batch, x_t.device)

    def predict() -> Tensor:
        time, conditions = model.schedule.network_time(t), model.conditioning(inputs, t)
        return torch.cat([each.forward(x_t, time, conditions).mean for each in model.denoiser.training_passes(draws)])

    ours = Contender("open-ldm", model, predict, torch.cat([eps, eps]))
    return Comparison(ours, dit_peer(setting, x_t, eps, t, labels), same_work=False)
