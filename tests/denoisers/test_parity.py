"""Same weights, same numbers as diffusers' transformers: outputs and input gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from open_ldm.conditioning import Conditioning, Conditions
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.denoisers import DiTConfig, MMDiTConfig, Slots
from open_ldm.denoisers.blocks.embeddings import unpatchify
from open_ldm.denoisers.dit import DiT
from open_ldm.denoisers.mmdit import MMDiT
from open_ldm.process.schedules import LinearSchedule, RectifiedFlow, build_schedule
from tests.denoisers.peers import dit_peer, mmdit_peer
from tests.helpers import randn, randomise, relative

GEOMETRY: dict[str, Any] = {"size": "XS", "depth": 3, "width": 48, "heads": 3}
CLASSES = 5
BOUND = 1e-5
"""Of the largest number: 170 float32 roundings. The transformers here need 8 of them at most."""


def output_and_gradient(output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad((output * randn(*output.shape, seed=9)).sum(), x)
    return output.detach(), gradient


def same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], bound: float = BOUND) -> None:
    assert float(theirs[0].abs().max()) > 0.1
    assert relative(ours[0], theirs[0]) <= bound
    assert relative(ours[1], theirs[1]) <= bound


@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("patch", "grid", "learned_variance"), [(2, (2, 8), True), (2, (4, 4), False), (4, (8, 2), True)])
def test_dit(patch: int, grid: tuple[int, int], learned_variance: bool, shift: Any, t: float) -> None:
    config = DiTConfig(**GEOMETRY, patch=patch, time_frequency_shift=shift)
    ours = randomise(DiT(config, Slots(4, None, learned_variance)))
    conditioning = Conditioning(ClassSemantic(route="modulation"), (), GEOMETRY["width"], classes=CLASSES)
    labels = torch.tensor([0, 3, CLASSES])  # the last one is the null class
    x = randn(3, 4, grid[0] * patch, grid[1] * patch).requires_grad_()
    time = build_schedule(LinearSchedule()).network_time(torch.full((3,), t))
    assert float(time[0]) == pytest.approx(1000 * t - 1, abs=1e-3)
    modulation = conditioning.get_parameter("semantic.table.weight")[labels]
    prediction = ours(x, time, Conditions(modulation))
    parts = [prediction.mean] + ([prediction.variance_fraction] if learned_variance else [])
    found = output_and_gradient(torch.cat(parts, dim=1), x)

    theirs = dit_peer(ours, config, conditioning, grid)
    tokens: list[Tensor] = []  # diffusers puts tokens together as if every grid were square
    theirs.proj_out_2.register_forward_hook(lambda module, args, output: tokens.append(output))
    theirs(x, timestep=time, class_labels=labels)
    same(found, output_and_gradient(unpatchify(tokens[0], grid, patch), x))


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("qk_norm", ["none", "rms"])
@pytest.mark.parametrize(("patch", "grid"), [(2, (3, 5)), (4, (4, 2))])
def test_mmdit(patch: int, grid: tuple[int, int], qk_norm: Any, length: int, t: float) -> None:
    config = MMDiTConfig(**GEOMETRY, patch=patch, qk_norm=qk_norm)
    ours = randomise(MMDiT(config, Slots(6, 20)))
    width = GEOMETRY["width"]
    pooled = nn.Sequential(nn.Linear(12, width), nn.SiLU(), nn.Linear(width, width))
    x = randn(2, 6, grid[0] * patch, grid[1] * patch).requires_grad_()
    context, vector = randn(2, length, 20, seed=1), randn(2, 12, seed=2)
    time = RectifiedFlow().network_time(torch.full((2,), t))
    assert float(time[0]) == 1000 * t
    found = output_and_gradient(ours(x, time, Conditions(pooled(vector), context)).mean, x)

    theirs = mmdit_peer(ours, config, pooled, grid)
    wanted = theirs(x, encoder_hidden_states=context, pooled_projections=vector, timestep=time).sample
    same(found, output_and_gradient(wanted, x))
