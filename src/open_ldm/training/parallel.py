"""Several processes that train or encode one recipe: what they must agree on first, and how they share a model.

This is the only file that knows torch's DistributedDataParallel (DDP).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from open_ldm.core.config import PlainData, flattened
from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError
from open_ldm.training.settings import ParallelConfig, TrainingConfig

_OF_A_MACHINE = (".path", "init_from.source", "data.workers")
"""Ends of the names of settings that may differ from machine to machine."""


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
    machine = set_up_machine(training.device, training.dtype, training.deterministic)
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


def shared(objective: nn.Module, world: World) -> nn.Module:
    """Let the processes of a world train one objective together.

    Every process holds the whole model. While a backward pass is under way, gradients that are ready are summed over the
    processes, part by part. They are summed and not averaged, because a loss is already divided by the global batch.

    Args:
        objective: From a micro-batch to losses [B]; the root of a training step.
        world: The processes. Their models must be equal.

    Returns:
        What is called instead of the objective; the objective itself in a world of one.
    """
    if world.size == 1:
        return objective
    with world.waiting("the model"), warnings.catch_warnings():
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


@contextmanager
def accumulating(objective: nn.Module, *, last: bool) -> Iterator[None]:
    """Context manager around forward and backward of a micro-batch: only the `last` one of an update exchanges gradients."""
    if last or not isinstance(objective, DistributedDataParallel):
        yield
        return
    with objective.no_sync():
        yield
