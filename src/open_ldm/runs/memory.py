"""What a training holds in memory: weights and their kin by their number, activations by looking at one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from open_ldm.autoencoders import LatentStats
from open_ldm.core.device import Machine, host_memory, resident_memory
from open_ldm.core.nested import leaves
from open_ldm.core.seeds import Draws
from open_ldm.data.bucket_shapes import Shape
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising
from open_ldm.model.objective import Objective
from open_ldm.model.spec import DataFacts
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.recipe import Recipe
from open_ldm.training.ahead import MOST_AHEAD, UPDATES_AHEAD, depth_ahead
from open_ldm.training.muon import matrices_of
from open_ldm.training.recompute import recomputed_blocks

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
        copies: What is kept for the backward pass whatever the number of pictures, such as weights in 16 bits.
        picture: What is kept for the backward pass of each picture.
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

    What is kept for the backward pass grows linearly with the number of pictures, so that two numbers of them tell all others.

    Args:
        recipe: Settled.
        facts: What the model knows of the data.
        parameters: Of the model.
        compute_dtype: Of matrix products.
        program: As `program_bytes`.
        waiting: How many pictures wait.
    """
    (one, ready), (two, _) = (_counted(recipe, facts, number, compute_dtype, None, waiting.counted) for number in (1, 2))
    activations = {"copies": max(0, 2 * one - two), "picture": two - one}
    fixed = weights_and_kin(parameters, recipe.training.averages)
    moments = fixed.optimizer - (0 if recipe.training.optimizer.muon is None else FLOAT32 * _of_matrices(recipe, facts))
    return replace(fixed, **activations, optimizer=moments, program=program, ready=ready, waiting=waiting)


def _of_matrices(recipe: Recipe, facts: DataFacts) -> int:
    """Parameters of which Muon keeps one running mean, where AdamW keeps two."""
    with torch.device("meta"):
        blocks = DiffusionModel(recipe.trained_spec(facts)).denoiser.block_modules()
    return sum(matrix.numel() for matrix in matrices_of(blocks))


def kept_for_backward(
    recipe: Recipe, facts: DataFacts, pictures: int, compute_dtype: torch.dtype, shape: Shape | None = None
) -> int:
    """Count what autograd keeps between forward and backward pass, on fake tensors, which have shapes and no numbers.

    `shape` as in `made_batch`.
    """
    return _counted(recipe, facts, pictures, compute_dtype, shape)[0]


def _counted(
    recipe: Recipe, facts: DataFacts, pictures: int, dtype: torch.dtype, shape: Shape | None, counted: bool = False
) -> tuple[int, int]:
    with torch.device("meta"):
        model = DiffusionModel(recipe.trained_spec(facts)).compute_in(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        return kept_and_ready(model.to_empty(device="cpu"), recipe, pictures, shape, counted=counted)


def kept_by(model: DiffusionModel, recipe: Recipe, pictures: int, shape: Shape | None = None) -> int:
    """Count what autograd keeps of a micro-batch, as `kept_and_ready`."""
    return kept_and_ready(model, recipe, pictures, shape)[0]


def kept_and_ready(
    model: DiffusionModel, recipe: Recipe, pictures: int, shape: Shape | None = None, *, counted: bool = False
) -> tuple[int, int]:
    """Count the bytes that autograd keeps between the forward and the backward pass of a micro-batch, and of one that waits.

    A storage that several operations keep counts once; the parameters themselves do not count. Blocks that the recipe computes
    again keep their inputs, and the largest of them counts whole besides, as it does while its backward pass runs.

    Args:
        model: Of the recipe.
        recipe: Settled.
        pictures: Of the micro-batch.
        shape: As in `made_batch`.
        counted: As `Waiting`.
    """
    kept = _Kept({parameter.untyped_storage()._cdata for parameter in model.parameters()})
    noising = _noising(recipe, model, counted)
    batch = noising.padded(noising.draw(made_batch(recipe, 0, pictures, noising.device, shape)))
    batch = replace(batch, draws=_WithoutNumbers(**vars(batch.draws)))
    with ExitStack() as stack:
        for block in recomputed_blocks(model.denoiser.block_modules(), recipe.training.recompute):
            stack.enter_context(kept.recomputing(block))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor))
        Objective(model, recipe.objective)(batch)
    waits = noising.draw(made_batch(recipe, 0, pictures, noising.device, shape))  # with all that the objective asks for
    held = {leaf.untyped_storage()._cdata: leaf.untyped_storage() for leaf in leaves(waits) if isinstance(leaf, Tensor)}
    return kept.bytes, sum(storage.nbytes() for storage in held.values())


class _Kept:
    """What a forward pass keeps: each storage once, and of blocks that are computed again their inputs, and one of them whole.

    Args:
        own: Addresses of the storages that do not count.
    """

    def __init__(self, own: set[int]) -> None:
        self.own = own
        self._passing: dict[int, torch.UntypedStorage] = {}
        self._blocks: list[dict[int, torch.UntypedStorage]] = []
        self._inside = False

    @property
    def bytes(self) -> int:
        """The most at a time: the backward pass computes one block again after the other, the last one first."""
        fixed = sum(storage.nbytes() for storage in self._passing.values())
        blocks = ([one.nbytes() for at, one in block.items() if at not in self._passing] for block in self._blocks)
        return fixed + max(map(sum, blocks), default=0)

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd keeps."""
        self._hold(tensor, self._blocks[-1] if self._inside else self._passing)
        return tensor

    @contextmanager
    def recomputing(self, block: nn.Module) -> Iterator[None]:
        """Context manager in which a block counts as one that is computed again."""
        hooks = (
            block.register_forward_pre_hook(self._begin, with_kwargs=True),
            block.register_forward_hook(self._end),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        for leaf in leaves([given, named]):
            if isinstance(leaf, Tensor):
                self._hold(leaf, self._passing)
        self._blocks.append({})
        self._inside = True

    def _end(self, block: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        self._inside = False

    def _hold(self, tensor: Tensor, where: dict[int, torch.UntypedStorage]) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            where[storage._cdata] = storage  # held, so that no other takes its address


class _WithoutNumbers(Draws):
    """Draws on fake tensors, of which no number can be taken: 0 hides the fewest tokens, which keeps the most memory."""

    def shared_uniform(self, purpose: str) -> float:
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
