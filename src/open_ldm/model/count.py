"""Counting a model without allocating it: parameters, and multiply-adds of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from open_ldm.conditioning.empty import empty_inputs
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import ModelSpec


@dataclass(frozen=True)
class Count:
    """Trainable parameters, and multiply-adds (in 10^9) of one forward pass for one picture without guidance."""

    parameters: int
    gmacs: float


def count_model(spec: ModelSpec, latent_size: tuple[int, int]) -> Count:
    """Build a model on the meta device and count its parameters and the multiply-adds of one forward pass.

    One multiply-add is one MAC; the DiT paper counts its "Gflops" in the same way (Peebles & Xie 2023, Table 1).

    Args:
        spec: The model.
        latent_size: (height, width) of the latents.
    """
    with torch.device("meta"):
        model = DiffusionModel(spec).requires_grad_(False)
        x_t, t = torch.empty(1, spec.facts.channels, *latent_size), torch.empty(1)
        inputs = empty_inputs(spec.conditioning)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.predict(x_t, t, inputs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Count(parameters, counter.get_total_flops() / 2e9)
