"""What a training holds in memory: weights and their kin by their number, activations by looking at one update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from open_ldm.autoencoders import LatentStats
from open_ldm.core.device import Machine, host_memory, resident_memory
from open_ldm.core.live_bytes import LiveBytes
from open_ldm.core.nested import leaves
from open_ldm.core.seeds import Draws
from open_ldm.core.shapes_only import shapes_only
from open_ldm.data.bucket_shapes import Shape
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising
from open_ldm.model.objective import Objective
from open_ldm.model.spec import DataFacts
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.recipe import Recipe
from open_ldm.training.ahead import MOST_AHEAD, UPDATES_AHEAD, depth_ahead
from open_ldm.training.muon import matrices_of
from open_ldm.training.recompute import recompute, recomputed_blocks

FLOAT32 = 4
PROGRAM_GROWS = 90_000_000
"""Bytes that the program grows by while it trains on a CPU: code of kernels, the report. Measured, x86-64, torch 2.13."""
KEPT_FREE = 0.1
"""Share of a device's memory that a plan leaves for what it cannot see: workspaces of kernels, fragments, the program."""


@dataclass(frozen=True)
class Waiting:
    """Pictures that are ready to learn from and lie on the device until their turn comes.

    Attributes:
        share: Pictures of one update and device, which are all there when it begins; 0 counts none.
        ahead: Whether a thread makes those of the next updates ready meanwhile (training/ahead.py).
        counted: Whether their padding noise is drawn when they are used.
    """

    share: int = 0
    ahead: bool = False
    counted: bool = False

    def pictures(self, micro_batch: int) -> int:
        """Return how many there are at the most."""
        return self.share + (min(UPDATES_AHEAD * self.share, MOST_AHEAD * micro_batch) if self.ahead else 0)


def waiting_on(device: torch.device, share: int) -> Waiting:
    """Return how many pictures wait on a device that learns from `share` pictures in an update."""
    return Waiting(share, depth_ahead(device, 1) > 0, device.type != "cpu")


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds.

    Attributes:
        weights: Float32.
        gradients: Float32.
        optimizer: The two running means of AdamW, of which Muon keeps one.
        average: The averaged weights, one or two.
        copies: What forward and backward pass hold whatever the number of pictures, such as weights in 16 bits.
        picture: What they hold of each picture at the most, where both are largest together.
        program: The program itself, on a CPU, whose memory it shares.
        ready: Of a picture that waits.
        waiting: How many pictures wait.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    copies: int
    picture: int
    program: int = 0
    ready: int = 0
    waiting: Waiting = Waiting()

    def total(self, micro_batch: int) -> int:
        """Return the bytes with so many pictures in a forward pass."""
        fixed = self.weights + self.gradients + self.optimizer + self.average + self.copies + self.program
        return fixed + micro_batch * self.picture + self.waits(micro_batch)

    def waits(self, micro_batch: int) -> int:
        """Return the bytes of all pictures that wait."""
        return self.ready * self.waiting.pictures(micro_batch)

    def largest(self, sizes: Sequence[int], available: int) -> int | None:
        """Return the largest of these micro-batches that fits into so many bytes; None where none does."""
        fitting = [size for size in sizes if self.total(size) <= (1 - KEPT_FREE) * available]
        return max(fitting, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def weights_and_kin(parameters: int, averages: int = 1) -> Memory:
    """Count what a training with so many averages holds whatever the number of pictures, but for copies."""
    weights = FLOAT32 * parameters
    return Memory(weights, weights, 2 * weights, averages * weights, 0, 0)


def memory_of(
    recipe: Recipe,
    facts: DataFacts,
    parameters: int,
    compute_dtype: torch.dtype,
    program: int = 0,
    waiting: Waiting = Waiting(),
) -> Memory:
    """Count what a training holds; nothing of the model's size is allocated.

    What the passes hold grows linearly with the number of pictures, so that two numbers of them tell all others. A single one
    is computed by other operations, and may be largest at another place.

    Args:
        recipe: Settled.
        facts: What the model knows of the data.
        parameters: Of the model.
        compute_dtype: Of matrix products.
        program: As `program_bytes`.
        waiting: How many pictures wait.
    """
    (two, ready), (four, _) = (_counted(recipe, facts, number, compute_dtype, None, waiting.counted) for number in (2, 4))
    picture = (four - two) // 2
    activations = {"copies": max(0, two - 2 * picture), "picture": picture}
    fixed = weights_and_kin(parameters, recipe.training.averages)
    moments = fixed.optimizer - (0 if recipe.training.optimizer.muon is None else FLOAT32 * _of_matrices(recipe, facts))
    return replace(fixed, **activations, optimizer=moments, program=program, ready=ready // 2, waiting=waiting)


def _of_matrices(recipe: Recipe, facts: DataFacts) -> int:
    """Parameters of which Muon keeps one running mean, where AdamW keeps two."""
    with shapes_only():
        blocks = DiffusionModel(recipe.trained_spec(facts)).denoiser.block_modules()
    return sum(matrix.numel() for matrix in matrices_of(blocks))


def most_held(recipe: Recipe, facts: DataFacts, pictures: int, compute_dtype: torch.dtype, shape: Shape | None = None) -> int:
    """Count the most bytes that an update of a new model holds, on fake tensors, which have shapes and no numbers.

    The rest as `held_by`.
    """
    return _counted(recipe, facts, pictures, compute_dtype, shape)[0]


def _counted(
    recipe: Recipe, facts: DataFacts, pictures: int, dtype: torch.dtype, shape: Shape | None, counted: bool = False
) -> tuple[int, int]:
    with shapes_only():
        model = DiffusionModel(recipe.trained_spec(facts)).compute_in(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return held_and_ready(model.to_empty(device="cpu"), recipe, pictures, shape, counted=counted)


def held_by(model: DiffusionModel, recipe: Recipe, pictures: int, shape: Shape | None = None) -> int:
    """Count the most bytes that the forward and backward pass of a micro-batch hold, as `held_and_ready`."""
    return held_and_ready(model, recipe, pictures, shape)[0]


def held_and_ready(
    model: DiffusionModel, recipe: Recipe, pictures: int, shape: Shape | None = None, *, counted: bool = False
) -> tuple[int, int]:
    """Count the most bytes that the passes of a micro-batch hold at a time, and those of a micro-batch that waits.

    Parameters, their gradients and what waited do not count. The passes are those of a training: where the recipe has blocks
    computed again, what one of them makes then counts while its backward pass runs.

    Args:
        model: Of the recipe. It is of no use afterwards: it has gradients, and its blocks are changed.
        recipe: Settled.
        pictures: Of the micro-batch.
        shape: As in `made_batch`.
        counted: As `Waiting`.
    """
    noising = _noising(recipe, model, counted)
    batch = noising.padded(noising.draw(made_batch(recipe, 0, pictures, noising.device, shape)))
    batch = replace(batch, draws=_WithoutNumbers(**vars(batch.draws)))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for block in recomputed_blocks(model.denoiser.block_modules(), recipe.training.recompute):
        recompute(block)
    with LiveBytes() as live:
        torch.autograd.backward(Objective(model, recipe.objective)(batch).sum())
    waits = noising.draw(made_batch(recipe, 0, pictures, noising.device, shape))  # with all that the objective asks for
    held = {leaf.untyped_storage()._cdata: leaf.untyped_storage() for leaf in leaves(waits) if isinstance(leaf, Tensor)}
    return live.most, sum(storage.nbytes() for storage in held.values())


class _WithoutNumbers(Draws):
    """Draws on fake tensors, of which no number can be taken: 0 hides the fewest tokens, which keeps the most memory."""

    def shared_uniform(self, purpose: str) -> float:
        """Return 0, whatever it is for."""
        return 0.0


def _noising(recipe: Recipe, model: DiffusionModel, counted: bool) -> Noising:
    channels = recipe.latent_shape[0]
    return Noising(
        seed=0,
        batch_size=recipe.training.batch_size,
        stats=LatentStats((0.0,) * channels, (1.0,) * channels),
        conditioning=recipe.conditioning,
        time_density=recipe.objective.times,
        discrete_steps=model.schedule.discrete_steps,
        device=torch.device("cpu"),
        counted_padding=counted,
        keeps_mean=recipe.objective.alignment is not None,
    )


def program_bytes(machine: Machine) -> int:
    """Return what the program itself will take of a CPU's memory: what it takes now, and what it loads while it trains."""
    return (resident_memory() or 0) + PROGRAM_GROWS if machine.device.type == "cpu" else 0


def available_bytes(machine: Machine) -> int | None:
    """Return the memory that is free on a device, or of its host for a CPU, as if this program were not there; None unknown."""
    if machine.device.type == "cuda":
        return int(torch.cuda.mem_get_info(machine.device)[0])
    memory = host_memory()
    return None if memory is None else memory[0] + (resident_memory() or 0)
