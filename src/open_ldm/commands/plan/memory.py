"""What a training holds in memory: weights and their kin by their number, activations by looking at one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from open_ldm.autoencoders import LatentStats
from open_ldm.commands.plan.inputs import made_batch
from open_ldm.core.device import Machine, host_memory
from open_ldm.core.seeds import Draws
from open_ldm.data.bucket_shapes import Shape
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising
from open_ldm.model.objective import Objective
from open_ldm.model.spec import DataFacts
from open_ldm.runs.recipe import Recipe

FLOAT32 = 4
KEPT_FREE = 0.1
"""Share of a device's memory that a plan leaves for what it cannot see: workspaces of kernels, fragments, the program."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds.

    Attributes:
        weights: Float32.
        gradients: Float32.
        optimizer: The two running means of AdamW.
        average: The averaged weights.
        copies: What is kept for the backward pass whatever the number of pictures, such as weights in 16 bits.
        picture: What is kept for the backward pass of each picture.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    copies: int
    picture: int

    def total(self, micro_batch: int) -> int:
        """Return the bytes with so many pictures in a forward pass."""
        fixed = self.weights + self.gradients + self.optimizer + self.average + self.copies
        return fixed + micro_batch * self.picture

    def largest(self, sizes: Sequence[int], available: int) -> int | None:
        """Return the largest of these micro-batches that fits into so many bytes; None where none does."""
        fitting = [size for size in sizes if self.total(size) <= (1 - KEPT_FREE) * available]
        return max(fitting, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def memory_of(recipe: Recipe, facts: DataFacts, parameters: int, compute_dtype: torch.dtype) -> Memory:
    """Count what a training holds; nothing of the model's size is allocated.

    What is kept for the backward pass grows linearly with the number of pictures, so that two numbers of them tell all others.

    Args:
        recipe: Settled.
        facts: What the model knows of the data.
        parameters: Of the model.
        compute_dtype: Of matrix products.
    """
    one, two = (kept_for_backward(recipe, facts, pictures, compute_dtype) for pictures in (1, 2))
    weights = FLOAT32 * parameters
    return Memory(weights, weights, 2 * weights, weights, copies=max(0, 2 * one - two), picture=two - one)


def kept_for_backward(
    recipe: Recipe, facts: DataFacts, pictures: int, compute_dtype: torch.dtype, shape: Shape | None = None
) -> int:
    """Count what autograd keeps between forward and backward pass, on fake tensors, which have shapes and no numbers.

    `shape` as in `made_batch`.
    """
    with torch.device("meta"):
        model = DiffusionModel(recipe.model_spec(facts)).compute_in(compute_dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return kept_by(model.to_empty(device="cpu"), recipe, pictures, shape)


def kept_by(model: DiffusionModel, recipe: Recipe, pictures: int, shape: Shape | None = None) -> int:
    """Count the bytes that autograd keeps between the forward and the backward pass of a micro-batch.

    A storage that several operations keep counts once; the parameters themselves do not count.

    Args:
        model: Of the recipe.
        recipe: Settled.
        pictures: Of the micro-batch.
        shape: As in `made_batch`.
    """
    kept: dict[int, tuple[int, torch.UntypedStorage]] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes(), storage  # held, so that no other takes its address
        return tensor

    noising = _noising(recipe, model)
    batch = noising.draw(made_batch(recipe, 0, pictures, noising.device, shape))
    batch = replace(batch, draws=_WithoutNumbers(**vars(batch.draws)))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Objective(model, recipe.objective)(batch)
    return sum(size for size, _ in kept.values())


class _WithoutNumbers(Draws):
    """Draws on fake tensors, of which no number can be taken: 0 hides the fewest tokens, which keeps the most memory."""

    def shared_uniform(self, purpose: str) -> float:
        return 0.0


def _noising(recipe: Recipe, model: DiffusionModel) -> Noising:
    channels = recipe.latent_shape[0]
    return Noising(
        seed=0,
        batch_size=recipe.training.batch_size,
        stats=LatentStats((0.0,) * channels, (1.0,) * channels),
        conditioning=recipe.conditioning,
        time_density=recipe.objective.times,
        discrete_steps=model.schedule.discrete_steps,
        device=torch.device("cpu"),
    )


def available_bytes(machine: Machine) -> int | None:
    """Return the memory that is free on a device, or of its host where it is a CPU; None where that is not known."""
    if machine.device.type == "cuda":
        return int(torch.cuda.mem_get_info(machine.device)[0])
    memory = host_memory()
    return None if memory is None else memory[0]
