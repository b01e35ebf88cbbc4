"""Several processes that train or encode one recipe: how they find each other, and what they must agree on first."""

from __future__ import annotations

from typing import Protocol

from open_ldm.core.config import PlainData, flattened
from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import World, join_world
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
    """Set up this process for a recipe and join the others that were started with it; errors as `join_world`."""
    training = recipe.training
    machine = set_up_machine(training.device, training.dtype, training.deterministic)
    return join_world(machine.device, recipe.parallel.timeout_seconds)


def require_same_recipe_on_all(recipe: ParallelRecipe, world: World) -> None:
    """Refuse to go on where the processes were given different recipes; paths and numbers of data workers may differ.

    Raises:
        ConfigError: They differ; every process raises the same error, which names what differs on which rank.
    """
    settings = flattened(recipe.model_dump(mode="json"))
    world.agreed("recipe", {name: value for name, value in settings.items() if not name.endswith(_OF_A_MACHINE)})
