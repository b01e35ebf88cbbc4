"""Several processes that train or encode one recipe: what they must agree on first, and how they share a model.

This is the only file that knows torch's DistributedDataParallel (DDP) and its fully sharded counterpart (FSDP2).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from open_ldm.core.config import PlainData, flattened
from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError
from open_ldm.training.settings import ParallelConfig, TrainingConfig

if TYPE_CHECKING:  # these and FSDP2 take seconds to import, and are imported where they are used
    from torch.distributed.tensor import DTensor

_OF_A_MACHINE = (".path", "init_from.source", "data.workers")
"""Ends of the names of settings that may differ from machine to machine."""
_TRAINING_BYTES = 20
"""Of a parameter in training: weight, average, gradient and two moments in float32."""
_AVERAGE_BYTES = 4
"""Of a parameter in one more average."""

M = TypeVar("M", bound=nn.Module)


class ParallelRecipe(PlainData, Protocol):
    """What is needed of a recipe here."""

    @property
    def training(self) -> TrainingConfig:
        """Settings of the trainer."""

    @property
    def parallel(self) -> ParallelConfig:
        """How the processes work together."""


def world_of(recipe: ParallelRecipe) -> World:
    """Set up this process for a recipe and join the others that were started with it.

    Raises:
        ConfigError: `parallel.kind` is single, and there are several processes. Also as `join_world`.
        LostProcessError: As `join_world`.
    """
    training = recipe.training
    machine = set_up_machine(training.device, training.dtype, training.deterministic, scaled=True)
    world = join_world(machine.device, recipe.parallel.timeout_seconds)
    if recipe.parallel.kind == "single" and world.size > 1:
        raise ConfigError(f"parallel.kind=single, and {world.size} processes were started", fix="parallel.kind=auto")
    return world


def require_same_recipe_on_all(recipe: ParallelRecipe, world: World) -> None:
    """Refuse to go on where the processes were given different recipes; paths and numbers of data workers may differ.

    Raises:
        ConfigError: They differ; every process raises the same error, which names what differs on which rank.
    """
    settings = flattened(recipe.model_dump(mode="json"))
    world.agreed("recipe", {name: value for name, value in settings.items() if not name.endswith(_OF_A_MACHINE)})


@dataclass(frozen=True)
class Sharing:
    """How the processes of a world share a model.

    Attributes:
        kind: `ddp`: every process holds the whole model; `fsdp`: it holds one shard of it.
        replicate: Whole models that there are in shards.
        sentence: What was chosen and why; empty in a world of one.
    """

    kind: Literal["single", "ddp", "fsdp"] = "single"
    replicate: int = 1
    sentence: str = ""

    @property
    def in_shards(self) -> bool:
        """Whether a process holds only a part of the model."""
        return self.kind == "fsdp"

    @property
    def numerics(self) -> str:
        """How gradients and their norm are summed, which decides how they are rounded; empty in a world of one."""
        return f"{self.kind} x{self.replicate}" if self.replicate > 1 else "" if self.kind == "single" else self.kind


def choose_sharing(config: ParallelConfig, model: nn.Module, world: World, device: torch.device, averages: int = 1) -> Sharing:
    """Choose how the processes share a model.

    `auto` takes DDP where the training of the whole model fits in half of a card's memory, and on CPUs; else FSDP2.

    Args:
        config: The recipe's.
        model: What is trained.
        world: The processes.
        device: Where this process trains; the smallest card counts.
        averages: How many averages of the weights there are.

    Returns:
        The same on every process.

    Raises:
        ConfigError: The model cannot be shared as the recipe says.
    """
    if world.size == 1:
        return Sharing()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    each = _TRAINING_BYTES + _AVERAGE_BYTES * (averages - 1)
    needed, kind, why = each * parameters, config.kind, f"parallel.kind={config.kind}"
    if kind in ("auto", "single"):
        here = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
        card = min(world.gathered(here, "the memory of the cards"))
        kind = "fsdp" if card and needed > card // 2 else "ddp"
        fits = f"{'more than' if kind == 'fsdp' else 'within'} half of a card's {card / 1e9:.3g} GB" if card else "on CPUs"
        why = f"{each} bytes x {parameters:,} parameters are {needed / 1e9:.3g} GB, {fits}"
    if kind == "ddp":
        return Sharing("ddp", 1, f"{world.size} processes, each with the whole model (ddp): {why}")
    if world.size % config.replicate:
        legal = [number for number in range(1, world.size + 1) if world.size % number == 0]
        raise ConfigError(
            f"parallel.replicate={config.replicate} does not divide {world.size} processes",
            needed=f"one of {', '.join(map(str, legal))}",
        )
    from torch.distributed.fsdp import FSDPModule

    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise ConfigError(f"parallel.kind=fsdp with torch {torch.__version__}", needed="torch 2.13", fix="parallel.kind=ddp")
    shards = f"1/{world.size // config.replicate} of the model (fsdp)"
    return Sharing("fsdp", config.replicate, f"{world.size} processes, each with {shards}: {why}")


def shared(
    objective: nn.Module, blocks: Sequence[nn.Module], world: World, sharing: Sharing, device: torch.device
) -> nn.Module:
    """Let the processes of a world train one objective together.

    Gradients are exchanged part by part while a backward pass is under way. They are summed and not averaged, because a loss
    is already divided by the global batch.

    Args:
        objective: From a micro-batch to losses [B]; the root of a training step. Under FSDP2 its parameters are replaced by
            shards, so that optimiser and average must be built afterwards.
        blocks: Its repeated parts: under FSDP2 each is made whole only while it computes.
        world: The processes. Their models must be equal.
        sharing: How they share it.
        device: Where this process trains.

    Returns:
        What is called instead of the objective; the objective itself in a world of one.
    """
    match sharing.kind:
        case "single":
            return objective
        case "ddp":
            with world.waiting("the model"):
                return _copied(objective)
        case "fsdp":
            with world.waiting("the model"):
                return _in_shards(objective, blocks, world.size, sharing.replicate, device)


def _copied(objective: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # torch 2.10 knows no other name
        wrapped = DistributedDataParallel(
            objective,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=True,  # which conditions are dropped decides which parameters a batch uses
        )
    # DDP's own exchange divides by the number of processes. It takes no hook with the annotations of this module.
    wrapped.register_comm_hook(None, lambda state, bucket: _summed(bucket.buffer()))
    return wrapped


def _summed(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """The sum of a part of the gradients over all processes."""
    sent: torch.futures.Future[list[Tensor]] = dist.all_reduce(gradients, async_op=True).get_future()
    return sent.then(lambda done: done.value()[0])


def _in_shards(objective: nn.Module, blocks: Sequence[nn.Module], size: int, replicate: int, device: torch.device) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    # It warns of in-place changes of what a block returns, if that is a view. No network makes any.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    shape, names = ((size,), ("shard",)) if replicate == 1 else ((replicate, size // replicate), ("replicate", "shard"))
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    for block in blocks:
        fully_shard(block, mesh=mesh)
    root = fully_shard(objective, mesh=mesh)  # the objective itself, of another class
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            # FSDP2 divides by the number of processes. Another divisor is a kind of sum that gloo does not have, unless plain
            # sums are asked for.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    root.set_reduce_scatter_unused_params(True)  # as `find_unused_parameters` above
    return objective


@contextmanager
def accumulating(root: Any, sharing: Sharing, *, last: bool) -> Iterator[None]:
    """Context manager around forward and backward of a micro-batch: only the `last` one of an update exchanges gradients."""
    if sharing.in_shards:
        root.set_requires_gradient_sync(last)
    with root.no_sync() if sharing.kind == "ddp" and not last else nullcontext():
        yield


def hollow_copy(model: M) -> M:
    """Copy a model that is not in shards yet without its parameters' values, which would fill memory.

    Returns:
        A model with all else, whose parameters have a shape only.
    """
    empty = {id(each): nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=False) for each in model.parameters()}
    return copy.deepcopy(model, dict(empty))


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the part of each tensor that this process holds: its shard, or all of it."""
    return [tensor.to_local() if _is_shard(tensor) else tensor for tensor in tensors]


def whole_tensors(tensors: Mapping[str, Tensor], here: bool = True) -> dict[str, Tensor]:
    """Make tensors whole that may be in shards; all processes call this together.

    Args:
        tensors: By name.
        here: Whether this process needs them.

    Returns:
        The whole tensors by name; none where they are not needed.
    """
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if _is_shard(tensor) else tensor
        if here:
            found[name] = whole
    return found


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
    """Give tensors that may be in shards the values of whole ones of the same names, which every process has."""
    for name, tensor in tensors.items():
        values = whole[name].to(tensor.device)
        if _is_shard(tensor):
            from torch.distributed.tensor import distribute_tensor

            # Without a source rank nothing is sent.
            values = distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None)
        tensor.copy_(values)


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """2-norm of all tensors together, a scalar on every process."""
    norm = torch.nn.utils.get_total_norm(tensors)
    return norm.full_tensor() if _is_shard(norm) else norm


def _is_shard(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "full_tensor")
