"""Counting a model without allocating it: parameters, and multiply-adds of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from open_ldm.conditioning.empty import empty_inputs
from open_ldm.core.nested import leaves
from open_ldm.core.seeds import Draws
from open_ldm.core.shapes_only import shapes_only
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import ModelSpec


@dataclass(frozen=True)
class Count:
    """What was counted for one picture.

    Attributes:
        parameters: Trainable ones.
        gmacs: Multiply-adds of one forward pass without guidance, in 10^9.
        training_gmacs: Those of the forward passes of a training step, which differ where tokens are hidden or routed; where
            each step hides another share, as MDTv2's do, of the first step of the seed 0.
    """

    parameters: int
    gmacs: float
    training_gmacs: float


def count_model(spec: ModelSpec, latent_size: tuple[int, int]) -> Count:
    """Build a model on the meta device and count its parameters and the multiply-adds of forward passes.

    One multiply-add is one MAC; the DiT paper counts its "Gflops" in the same way (Peebles & Xie 2023, Table 1).

    Args:
        spec: The model.
        latent_size: (height, width) of the latents.
    """
    with shapes_only():
        model = DiffusionModel(spec).requires_grad_(False)
    with torch.device("meta"):
        x_t, t = torch.empty(1, spec.facts.channels, *latent_size), torch.empty(1)
        inputs = empty_inputs(spec.conditioning)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        equal = _EqualBlocks(model.denoiser.block_modules(), counter.get_total_flops)
        with torch.device("meta"):
            model.predict(x_t, t, inputs)
        sampling = counter.get_total_flops() + equal.flops
        conditions, time = model.conditioning(inputs, t), model.schedule.network_time(t)
        for one in model.denoiser.training_passes(Draws(0, (0,), 1, x_t.device)):
            one.forward(x_t, time, conditions)
        training = counter.get_total_flops() + equal.flops - sampling
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Count(parameters, sampling / 2e9, training / 2e9)


class _EqualBlocks:
    """Lets the first of equal blocks compute, and the others take its output, since tensors have no numbers here.

    Torch takes a millisecond for each operation that it counts, and a network has most of them in its blocks.

    Attributes:
        flops: Of the blocks that did not compute.
    """

    def __init__(self, blocks: Sequence[nn.Module], counted: Callable[[], int]) -> None:
        self.flops = 0
        self._counted = counted
        self._seen: dict[Hashable, tuple[int, Any]] = {}
        for block in blocks:
            self._watch(block)

    def _watch(self, block: nn.Module) -> None:
        forward = block.forward
        content = repr(block), tuple((name, parameter.shape) for name, parameter in block.named_parameters())

        def once(*given: Any, **named: Any) -> Any:
            """Run a block, or give what a block of the same content gave for the same shapes."""
            called_with = (leaf.shape if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves([given, named]))
            key = (content, *called_with)
            if key in self._seen:
                flops, output = self._seen[key]
                self.flops += flops
                return output
            before = self._counted()
            output = forward(*given, **named)
            self._seen[key] = self._counted() - before, output
            return output

        block.forward = once
