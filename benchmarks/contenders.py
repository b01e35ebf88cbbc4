"""The two sides of each comparison: open-ldm's network and the diffusers model of the same size, on the same tensors."""

from __future__ import annotations

import torch

from contend_dit import dit
from contend_mdtv2 import mdtv2
from contend_mmdit import mmdit
from contend_pixart import pixart
from contend_unet import unet
from contender import CHANNELS, Comparison, Setting

_BUILDERS = {"dit": dit, "mdtv2": mdtv2, "mmdit": mmdit, "pixart": pixart, "unet": unet}


def build(setting: Setting, seed: int = 0) -> Comparison:
    """Both sides on the same inputs, drawn from the seed."""
    torch.manual_seed(seed)
    with torch.device(setting.device):
        x_t = torch.randn(setting.batch, CHANNELS, setting.side, setting.side)
        eps, t = torch.randn_like(x_t), torch.rand(setting.batch)
    return _BUILDERS[setting.model](setting, x_t, eps, t)
