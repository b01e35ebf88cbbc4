"""The plan of a recipe: memory by part, the largest micro-batch, pictures a second, hours and disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_ldm.commands.dry_run import DryRun
from open_ldm.commands.plan.speed import NOT_HERE, Speed, assume_speed, measure_speed
from open_ldm.core.device import Machine, set_up_machine
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import duration
from open_ldm.runs.memory import Memory, Waiting, available_bytes, memory_of, program_bytes, waiting_on
from open_ldm.runs.recipe import Recipe
from open_ldm.training.plan import divisors
from open_ldm.training.settings import EveryBlock, PowerEmaConfig, TrainingConfig


@dataclass(frozen=True)
class Plan:
    """What a training needs.

    Attributes:
        recipe: Settled.
        data: What the data set holds, or what was assumed of it.
        parameters: Of the model.
        gmacs: Multiply-adds of one forward pass of one picture, in 10^9.
        devices: How many share the batch, each with a copy of the model.
        machine: The device that was looked at, in words, or the memory that was given for one that is not here.
        memory: Bytes of each device.
        available: Bytes that are free there, or as given; None where unknown.
        micro_batch: Pictures of one forward pass, by the recipe.
        largest: The largest micro-batch that fits and divides the share of a device; None where not even one picture fits.
        largest_recomputed: The same with `training.recompute=blocks`; None where that was not asked, or does not fit either.
        speed: Of one device.
    """

    recipe: Recipe
    data: str
    parameters: int
    gmacs: float
    devices: int
    machine: str
    memory: Memory
    available: int | None
    micro_batch: int
    largest: int | None
    largest_recomputed: int | None
    speed: Speed

    @property
    def seconds(self) -> float | None:
        """Time of the whole training, if devices add up without loss and nobody waits for pictures; None where not known."""
        speed = self.speed.samples_per_second
        return None if speed is None else self.recipe.training.samples / (speed * self.devices)

    @property
    def checkpoint_bytes(self) -> int:
        """Size of one checkpoint: weights, average and optimiser."""
        return self.memory.weights + self.memory.average + self.memory.optimizer

    @property
    def snapshots(self) -> int:
        """How many snapshots of two averages lie on the disk at the most; 0 where none are kept."""
        training = self.recipe.training
        if not isinstance(training.ema, PowerEmaConfig):
            return 0
        kept = training.ema.keep_snapshots + 1  # a new one is written before others go
        return min(kept, training.samples // training.snapshot_every_samples)

    def text(self) -> str:
        """The plan for people."""
        m, training = self.memory, self.recipe.training
        fits = "" if self.available is None else f" of {_size(self.available)} free"
        kept = training.keep_checkpoints + 1  # a new one is written before the oldest goes
        lines = [
            f"{self.recipe.title}: {self.data}",
            f"model        {self.parameters:,} parameters, {self.gmacs:.2f} GMACs a picture",
            f"device       {self.devices} x {self.machine}",
            f"memory       weights {_size(m.weights)}, gradients {_size(m.gradients)}, optimiser {_size(m.optimizer)},"
            f" average {_size(m.average)}" + (f", the program {_size(m.program)}" if m.program else ""),
            f"             forward and backward pass{self._again()} {_size(m.copies)}, and {_size(m.picture)} a picture"
            f" x {self.micro_batch} = {_size(m.picture * self.micro_batch)}",
            f"             pictures that wait for their turn {_size(m.waits(self.micro_batch))}",
            f"             in all {_size(m.total(self.micro_batch))}{fits}",
            f"micro-batch  {self._micro()}",
            *self._speed(),
            f"disk         checkpoints {kept} x {_size(self.checkpoint_bytes)}",
        ]
        if self.snapshots:
            each = f"{_size(m.average)} every {training.snapshot_every_samples:,} pictures"
            lines.append(f"             averages for ldm ema, at most {self.snapshots} x {each}")
        return "\n".join(lines)

    def _speed(self) -> list[str]:
        speed, seconds = self.speed, self.seconds
        if speed.samples_per_second is None or seconds is None:
            return [f"speed        {speed.said}"]
        return [
            f"speed        {speed.samples_per_second:,.3g} pictures/s a device ({speed.said})",
            f"time         {self.recipe.training.samples:,} pictures: {duration(seconds)}, without reading and encoding them",
        ]

    def _micro(self) -> str:
        if self.available is None:
            return f"{self.micro_batch}; how much memory is free is not known here: give --memory"
        again = self._recomputed()
        if self.largest is None:
            return f"not even one picture fits; fix: {again or 'a smaller denoiser.size or data.transform.size_px'}"
        if self.largest < self.micro_batch:
            either = f", or {again}" if again else ""
            return f"{self.micro_batch} does not fit; fix: training.micro_batch_size={self.largest}{either}"
        return f"{self.micro_batch} fits; {self.largest} is the largest that does"

    def _again(self) -> str:
        """Which blocks are computed again, in words."""
        match self.recipe.training.recompute:
            case "none":
                return ""
            case EveryBlock(every=every) if every > 1:
                return f" (1 block of {every} computed again)"
            case _:
                return " (blocks computed again)"

    def _recomputed(self) -> str:
        """The settings with which blocks that are computed again fit; empty where that is no help."""
        size = self.largest_recomputed
        if size is None or size <= (self.largest or 0):
            return ""
        return "training.recompute=blocks" + (f" training.micro_batch_size={size}" if size < self.micro_batch else "")

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "recipe": self.recipe.name,
            "edition": self.recipe.edition,
            "data": self.data,
            "parameters": self.parameters,
            "gmacs": round(self.gmacs, 3),
            "device": self.machine,
            "devices": self.devices,
            "memory": {**self.memory.to_json(), "total": self.memory.total(self.micro_batch), "available": self.available},
            "micro_batch": self.micro_batch,
            "largest_micro_batch": self.largest,
            "largest_micro_batch_recomputed": self.largest_recomputed,
            "speed": self.speed.to_json(),
            "samples": self.recipe.training.samples,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "checkpoint_bytes": self.checkpoint_bytes,
            **({"snapshots": self.snapshots, "snapshot_bytes": self.memory.average} if self.snapshots else {}),
        }


def plan(run: DryRun, *, devices: int = 1, memory_bytes: int | None = None, measure: bool = True) -> Plan:
    """Plan the training of a recipe that builds.

    Args:
        run: The recipe and what its model knows of the data.
        devices: How many share the batch. More than the one processor of a machine without a card are not here.
        memory_bytes: Memory of each device, for one that is not here, whose speed is not known; None looks at this machine.
        measure: Whether anything is timed: updates, or matrix products where updates would not fit here.

    Returns:
        The plan.

    Raises:
        ConfigError: The batch cannot be shared by so many devices, or the recipe's device is not here.
    """
    recipe, training = run.recipe, run.recipe.training
    machine = set_up_machine(training.device, training.dtype, training.deterministic, scaled=True)
    sizes = micro_batches(training, devices)
    program = program_bytes(machine) if memory_bytes is None else 0
    waiting = waiting_on(machine.device, sizes[-1]) if memory_bytes is None else Waiting(sizes[-1], ahead=True, counted=True)
    memory = memory_of(recipe, run.facts, run.parameters, machine.compute_dtype, program, waiting)
    here = available_bytes(machine)
    available = here if memory_bytes is None else memory_bytes
    largest = None if available is None else memory.largest(sizes, available)
    wanted = training.micro_batch_size
    micro = (largest or sizes[0]) if wanted == "auto" else wanted or sizes[-1]
    if memory_bytes is not None or (devices > 1 and machine.device.type == "cpu"):
        speed = Speed(None, False, NOT_HERE)
    elif measure and (here is None or memory.total(micro) <= here):
        speed = measure_speed(recipe, run.facts, machine, micro)
    else:
        speed = assume_speed(run.training_gmacs, machine, measure=measure)
    recomputed = None
    if available is not None and (largest or 0) < micro and training.recompute != "blocks":
        recomputed = _recomputed_memory(run, machine, program, waiting).largest(
            [size for size in sizes if size <= micro], available
        )
    where = machine.sentence
    if memory_bytes is not None:
        where = f"{_size(memory_bytes)} that are not here, computing as {machine.sentence} does"
    sizes_that_fit = (micro, largest, recomputed)
    return Plan(recipe, run.data, run.parameters, run.gmacs, devices, where, memory, available, *sizes_that_fit, speed)


def _recomputed_memory(run: DryRun, machine: Machine, program: int, waiting: Waiting) -> Memory:
    """What the training would hold with `training.recompute=blocks`."""
    training = run.recipe.training.model_copy(update={"recompute": "blocks"})
    recipe = run.recipe.model_copy(update={"training": training})
    return memory_of(recipe, run.facts, run.parameters, machine.compute_dtype, program, waiting)


def micro_batches(training: TrainingConfig, devices: int) -> list[int]:
    """Return the micro-batches that divide a device's share of the batch, smallest first. Raises ConfigError for no share."""
    if training.batch_size % devices:
        raise ConfigError(
            f"training.batch_size={training.batch_size} cannot be shared by {devices} devices",
            fix="choose a number of devices that divides it",
        )
    return divisors(training.batch_size // devices)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
