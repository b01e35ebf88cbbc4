"""A model trained at one size and shown the same pictures enlarged: resampled positions tell it where things are."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core import seeds
from open_ldm.denoisers import DiTConfig, Slots, build_denoiser
from open_ldm.denoisers.blocks.positions import GridChange, GridPositions, Positions, positions_on
from open_ldm.denoisers.dit import DiT

WIDTH, SIDE, BATCH, UPDATES = 32, 8, 16, 250
GRID = (SIDE // 2, SIDE // 2)


def pictures(count: int, seed: int) -> Tensor:
    """Pictures whose channels are their column and row coordinates, times a random strength."""
    slope = torch.cos(math.pi * (torch.arange(SIDE) + 0.5) / SIDE)
    coordinates = torch.stack([slope.expand(SIDE, SIDE), slope.unsqueeze(1).expand(SIDE, SIDE)])
    strength = 1 + 0.2 * seeds.normal(seed, "strength", range(count), (2, 1, 1))
    return strength * coordinates  # [B, 2, H, W]


def noised(x_0: Tensor, t: Tensor, seed: int) -> Tensor:
    eps = seeds.normal(seed, "eps", range(len(x_0)), x_0.shape[1:])
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x_0 + t * eps


@lru_cache(maxsize=1)
def trained() -> DiT:
    """Predicts x_0 from pictures under much noise, where positions help most."""
    torch.manual_seed(0)
    denoiser = build_denoiser(DiTConfig(size="XS", depth=2, width=WIDTH, heads=2, patch=2), Slots(2, None))
    assert isinstance(denoiser, DiT)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=3e-3)
    for update in range(UPDATES):
        x_0 = pictures(BATCH, seed=update)
        t = 0.5 + 0.5 * seeds.uniform(update, "t", range(BATCH))
        predicted = denoiser(noised(x_0, t, seed=update), 1000 * t, Conditions(torch.zeros(BATCH, WIDTH))).mean
        optimizer.zero_grad()
        torch.autograd.backward((predicted - x_0).square().mean())
        optimizer.step()
    return denoiser.eval()


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize("t", [0.6, 0.8, 0.95])
def test_resampled_positions_predict_the_enlarged_picture_and_extrapolated_ones_do_not(t: float) -> None:
    denoiser, time = trained(), torch.full((32,), t)
    x_0 = pictures(32, seed=-1)
    x_t, nothing = noised(x_0, time, seed=-1), Conditions(torch.zeros(32, WIDTH))
    with torch.no_grad():
        denoiser.positions = Positions(GridPositions(), WIDTH)
        low = denoiser(x_t, 1000 * time, nothing).mean
        assert float((low - x_0).square().mean()) < 0.3 * float(x_0.square().mean()), "it has learned too little to tell"
        off: dict[GridChange, float] = {}
        for how in ("resample", "bicubic", "extrapolate"):
            denoiser.positions = Positions(positions_on(GridPositions(), GRID, (SIDE, SIDE), how), WIDTH)
            high = denoiser(doubled(x_t), 1000 * time, nothing).mean
            off[how] = float((high - doubled(low)).square().mean() / low.square().mean())
    assert off["resample"] < 0.5 * off["extrapolate"] and off["bicubic"] < 0.5 * off["extrapolate"], off
