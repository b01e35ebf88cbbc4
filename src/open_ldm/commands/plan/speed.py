"""How fast a recipe trains: a few real updates on this machine, or arithmetic where they would not fit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from open_ldm.autoencoders import LatentStats
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.peak import known_peak, matrix_speed, remember_peak
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.noising import ObjectiveInputs
from open_ldm.model.spec import DataFacts
from open_ldm.runs.build import build_trainer
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.recipe import Recipe
from open_ldm.training.ahead import depth_ahead
from open_ldm.training.compiled import wants_compiled
from open_ldm.training.plan import plan_batches
from open_ldm.training.trainer import DiffusionTrainer

WARM_UP, UPDATES, MOST_UPDATES = 2, 3, 20
LEAST_SECONDS = 2.0
"""The first updates of a process are slower. Quick ones are timed for so long, since their times scatter."""
ASSUMED_SHARE = 0.3
"""Share of the device's measured matrix speed that a training is assumed to reach where it was not timed."""
NOT_MEASURED = "not known: nothing was measured here before, and nothing is now; fix: leave --no-measure out"
NOT_HERE = "not known of devices that are not here; fix: ldm plan on a machine that has one, without --memory"


@dataclass(frozen=True)
class Speed:
    """Pictures a second of one device, and how that is known.

    Attributes:
        samples_per_second: Of the training's updates alone: reading and encoding pictures is not in it. None where not known.
        measured: Whether real updates were timed.
        said: How it is known, in words.
    """

    samples_per_second: float | None
    measured: bool
    said: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def measure_speed(recipe: Recipe, facts: DataFacts, machine: Machine, micro_batch: int) -> Speed:
    """Time real updates of the recipe's model on made batches, computed as a training would compute them.

    The first `WARM_UP` are not counted; then at least `UPDATES`, and as many of quick ones as fill `LEAST_SECONDS`.
    """
    channels = recipe.latent_shape[0]
    known = Knowledge(facts, LatentStats((0.0,) * channels, (1.0,) * channels))
    world = World()
    counted = machine.device.type != "cpu"
    trainer = build_trainer(recipe, known, machine, world, counted_padding=counted)
    compiled = _compiled(trainer, recipe, made_batch(recipe, 0, micro_batch, machine.device))
    batches = plan_batches(recipe.training.batch_size, micro_batch, world)
    ahead = depth_ahead(machine.device, batches.micro_batches) > 0
    seconds: list[float] = []
    while not _enough(seconds[WARM_UP:]):
        start = trainer.state.counters.samples_seen
        made: list[EncodedBatch | ObjectiveInputs] = [
            made_batch(recipe, start + number * micro_batch, micro_batch, machine.device)
            for number in range(batches.micro_batches)
        ]
        made = [trainer.prepared(batch) for batch in made] if ahead else made  # then a thread does this meanwhile
        started = time.perf_counter()
        trainer.update(made)  # ends with the loss as a number, so the device has finished
        seconds.append(time.perf_counter() - started)
    timed = seconds[WARM_UP:]
    speed = recipe.training.batch_size / median(timed)
    return Speed(speed, True, f"{len(timed)} updates of {recipe.training.batch_size} timed on {machine.sentence}{compiled}")


def _enough(seconds: Sequence[float]) -> bool:
    return len(seconds) >= MOST_UPDATES or (len(seconds) >= UPDATES and sum(seconds) >= LEAST_SECONDS)


def _compiled(trainer: DiffusionTrainer, recipe: Recipe, batch: EncodedBatch) -> str:
    """Compile the blocks as a training would, without comparing them; returns what to say of it."""
    parameters = sum(parameter.numel() for parameter in trainer.state.model.parameters())
    wanted = wants_compiled(recipe.training.compile, trainer.device, parameters)
    if not wanted or recipe.data.transform.buckets is not None:
        return ""
    problem = trainer.compile(batch, check=False)
    return f"; {problem}: uncompiled" if problem else ", blocks compiled"


def assumed_throughput(machine: Machine, *, measure: bool = True) -> float | None:
    """Return the floating-point operations a second that a training is taken to reach: a share of those of matrix products.

    Args:
        machine: Where.
        measure: Whether matrix products are timed. Otherwise their speed is the one that was measured here before, if any.
    """
    products = remember_peak(machine, matrix_speed(machine)) if measure else known_peak(machine)
    return None if products is None else ASSUMED_SHARE * products


def assume_speed(gmacs: float, machine: Machine, *, measure: bool = True) -> Speed:
    """Compute a speed from the model's multiply-adds and the speed of matrix products.

    A backward pass counts as two forward passes; one multiply-add is two operations.

    Args:
        gmacs: Multiply-adds of the forward passes of a training step for one picture, in 10^9.
        machine: Where.
        measure: As for `assumed_throughput`.
    """
    throughput = assumed_throughput(machine, measure=measure)
    if throughput is None:
        return Speed(None, False, NOT_MEASURED)
    when = "" if measure else ", measured before"
    return Speed(
        throughput / (3 * 2e9 * gmacs),
        False,
        f"by arithmetic, at {ASSUMED_SHARE:.0%} of the matrix speed of {machine.sentence}{when}",
    )
