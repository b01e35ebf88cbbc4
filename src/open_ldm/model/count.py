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
from open_ldm.core.shapes_only import shapes_only
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
    with shapes_only():
        model = DiffusionModel(spec).requires_grad_(False)
    with torch.device("meta"):
        x_t, t = torch.empty(1, spec.facts.channels, *latent_size), torch.empty(1)
        inputs = empty_inputs(spec.conditioning)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            equal = _EqualBlocks(model.denoiser.block_modules(), counter.get_total_flops)
            model.predict(x_t, t, inputs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Count(parameters, (counter.get_total_flops() + equal.flops) / 2e9)


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
