"""Gradients in bf16 are as near to those of float32 as torch.autocast's of the same network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning import Conditions
from open_ldm.denoisers import (
    DenoiserConfig,
    DiTConfig,
    MDTv2Config,
    MMDiTConfig,
    PixArtConfig,
    Slots,
    UNetConfig,
    build_denoiser,
)
from open_ldm.denoisers.blocks.modulation import EPSILON, modulated_norm
from tests.helpers import randn

SIDE, WIDTH = 8, 64
SHAPE: dict[str, Any] = {"size": "XS", "depth": 6, "width": WIDTH, "heads": 2}
CONFIGS: dict[str, DenoiserConfig] = {
    "dit": DiTConfig(**SHAPE),
    "mmdit": MMDiTConfig(**SHAPE),
    "pixart": PixArtConfig(**SHAPE),
    "mdtv2": MDTv2Config(**SHAPE, decode_layers=2),
    "unet": UNetConfig(size="XS", model_channels=16, heads=2),
}
MOST = 1.1
"""Ours over autocast's: 0.97 to 1.01 in transformers. With the modulation in bf16 it is 1.2, in DiT-S/2 1.6."""


def without_zeros(network: nn.Module) -> Any:
    """Nothing starts at zero, and all else as in training."""
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=source))
    return network


@pytest.mark.parametrize("name", list(CONFIGS))
def test_bf16_is_as_near_to_float32_as_autocast(name: str) -> None:
    torch.manual_seed(0)
    network = without_zeros(build_denoiser(CONFIGS[name], Slots(4, None, latent_size=(SIDE, SIDE))))
    time = torch.linspace(10, 900, 4)

    def gradient(dtype: torch.dtype, seed: int) -> Tensor:
        network.compute_dtype = dtype
        x_t, wanted = randn(4, 4, SIDE, SIDE, seed=seed), randn(4, 4, SIDE, SIDE, seed=seed + 50)
        loss = F.mse_loss(network(x_t, time, Conditions(0.02 * randn(4, WIDTH, seed=seed + 90))).mean.float(), wanted)
        parts = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        return torch.cat([part.double().flatten() for part in parts if part is not None])

    errors = {"ours": 0.0, "autocast": 0.0}
    for seed in range(3):
        exact = gradient(torch.float32, seed)
        errors["ours"] += float((gradient(torch.bfloat16, seed) - exact).norm() / exact.norm())
        with torch.autocast("cpu", torch.bfloat16):
            errors["autocast"] += float((gradient(torch.float32, seed) - exact).norm() / exact.norm())
    assert 1e-3 < errors["ours"] < MOST * errors["autocast"]


def test_a_modulated_norm_in_bf16_is_rounded_once() -> None:
    x, shift, scale = randn(2, 5, 16), randn(2, 1, 16, seed=1).bfloat16(), randn(2, 1, 16, seed=2).bfloat16()
    exact = F.layer_norm(x, (16,), eps=EPSILON) * (1 + scale.float()) + shift.float()
    found = modulated_norm(x, shift, scale)
    assert found.dtype == torch.bfloat16
    assert ((found.float() - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()
