"""What a run chooses by looking at its machine: once, when it starts; its manifests keep it, and all processes choose alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from open_ldm.conditioning.semantic import noise_shape
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.launch import processes_here
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.core.shapes_only import shapes_only
from open_ldm.denoisers.attention_switch import SHORT, longest_written_out
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import DataFacts
from open_ldm.runs.memory import Memory, Waiting, available_bytes, memory_of, program_bytes, waiting_on
from open_ldm.runs.recipe import Recipe
from open_ldm.training.muon import products_on
from open_ldm.training.parallel import choose_sharing
from open_ldm.training.plan import divisors, plan_batches

COUNTED = "counted"
"""In a fingerprint: padding noise is drawn by counters on the device. Runs without the entry draw it on the CPU."""

WRITTEN_OUT = "attention_written_out"
"""In a fingerprint: format and number of keys, such as `bfloat16 512`. Runs without the entry take the usual choice."""

MUON = "muon"
"""In a fingerprint: the format in which Muon multiplies matrices. Runs without the entry take that of the chip."""


@dataclass(frozen=True)
class Settled:
    """A run's choices.

    Attributes:
        counted_padding: As `Noising`.
        written_out: Up to how many keys attention is written out, by format (denoisers/attention_switch.py); empty for the
            usual choice.
        muon: Format in which Muon multiplies matrices; None for a training without it, or one that began before it was kept.
        micro_batch_size: Pictures per forward pass; None for a process's whole share.
        free: Bytes that were free before; None where that is not known.
        memory: Counts what the training holds.
        said: How the size was chosen; empty where the recipe gives it.
    """

    counted_padding: bool
    written_out: Mapping[torch.dtype, int]
    muon: torch.dtype | None
    micro_batch_size: int | None
    free: int | None
    memory: Callable[[], Memory]
    said: str = ""

    @contextmanager
    def naming_what_fits(self, micro_batch_size: int) -> Iterator[None]:
        """Context manager around a training, from the building of its model on: lack of memory names the micro-batch that fits.

        Raises:
            OutOfMemoryError: There was not enough memory.
        """

        def fix() -> str:
            """Find what would fit."""
            smaller = divisors(micro_batch_size)[:-1]
            fitting = None if self.free is None else self.memory().largest(smaller, self.free)
            if self.free is not None and fitting is None:
                return "a smaller denoiser.size or data.transform.size_px, or training.recompute=blocks"
            size = fitting or (smaller[-1] if smaller else None)
            return f"training.micro_batch_size={size}" if size else "a smaller denoiser.size or data.transform.size_px"

        with naming_lack_of_memory(f"with micro-batches of {micro_batch_size}", fix):
            yield

    @property
    def traits(self) -> dict[str, str]:
        """What the fingerprint holds of them, besides the micro-batch."""
        longest = " ".join(f"{dtype} {keys}" for dtype, keys in self.written_out.items()).removeprefix("torch.")
        return {
            **({"padding_noise": COUNTED} if self.counted_padding else {}),
            **({WRITTEN_OUT: longest} if longest else {}),
            **({MUON: str(self.muon).removeprefix("torch.")} if self.muon is not None else {}),
        }


def settle_choices(
    recipe: Recipe, facts: DataFacts, machine: Machine, world: World, saved: Mapping[str, str] | None
) -> Settled:
    """Settle what a recipe leaves to the machine; called before the model takes its memory.

    Args:
        recipe: Settled otherwise.
        facts: What the model knows of the data.
        machine: Where this process computes.
        world: The processes that train together.
        saved: The fingerprint that the run goes on from; None for a new run.

    Returns:
        As saved, or for a new run: padding noise by counters on an accelerator, the kernel of long attention on a CPU, the
        format of Muon, bfloat16 where the chips of all processes multiply it, and for `micro_batch_size: auto` the largest one
        that fits in the memory of every process.

    Raises:
        ConfigError: The batch cannot be shared by the processes.
    """
    noise = noise_shape(recipe.conditioning.semantic)
    counted = noise is not None and machine.device.type != "cpu" if saved is None else saved.get("padding_noise") == COUNTED
    counted = world.gathered(counted, "the padding noise")[0]
    written_out = written_out_of(saved) if saved is not None else _written_out(recipe, machine, world)
    muon = _muon(recipe, machine, world, saved)
    wanted, free = recipe.training.micro_batch_size, _free(machine)
    waiting = waiting_on(machine.device, recipe.training.batch_size // world.size)
    memory = partial(_memory, recipe, facts, machine, _shards(recipe, facts, machine, world), program_bytes(machine), waiting)
    if wanted != "auto":
        return Settled(counted, written_out, muon, wanted, free, memory)
    sizes = divisors(plan_batches(recipe.training.batch_size, None, world).micro_batch_size)
    if saved is not None and int(saved.get("micro_batch_size", 0)) in sizes:
        kept = int(saved["micro_batch_size"])
        return Settled(counted, written_out, muon, kept, free, memory, f"micro-batch {kept}, as this run began")
    largest = None if free is None else memory().largest(sizes, free)
    chosen = min(world.gathered(largest or sizes[0], "the micro-batch"))
    fits = "the largest that fits" if largest else "the smallest there is, since not even that fits"
    why = "how much memory is free is not known here" if free is None else f"{fits} in {free / 1e9:.3g} GB free"
    said = f"micro-batch {chosen} of {sizes[-1]}: {why}, by the arithmetic of ldm plan"
    return Settled(counted, written_out, muon, chosen, free, memory, said)


def written_out_of(saved: Mapping[str, str]) -> dict[torch.dtype, int]:
    """Read from a fingerprint up to how many keys attention is written out, by format; empty for the usual choice."""
    dtype, _, longest = saved.get(WRITTEN_OUT, "").partition(" ")
    return {getattr(torch, dtype): int(longest)} if longest else {}


def _written_out(recipe: Recipe, machine: Machine, world: World) -> dict[torch.dtype, int]:
    """Choose for a new run; what the first process finds counts for all."""
    height, width = recipe.latent_shape[1:]
    if height * width // getattr(recipe.denoiser, "patch", 1) ** 2 <= SHORT:
        return {}
    longest = world.gathered(longest_written_out(machine) if world.leads else None, "the kernel of attention")[0]
    return {} if longest is None else {machine.compute_dtype: longest}


def _muon(recipe: Recipe, machine: Machine, world: World, saved: Mapping[str, str] | None) -> torch.dtype | None:
    """Choose for a new run what all chips multiply, else as saved."""
    if recipe.training.optimizer.muon is None:
        return None
    if saved is not None:
        return getattr(torch, saved[MUON]) if MUON in saved else None
    found = world.gathered(products_on(machine.device), "the format of Muon")
    return torch.bfloat16 if all(each == torch.bfloat16 for each in found) else torch.float32


def _free(machine: Machine) -> int | None:
    """Bytes that this process may take; those of a CPU's memory are shared by the processes of the machine."""
    free = available_bytes(machine)
    return free if free is None or machine.device.type != "cpu" else free // processes_here()


def _shards(recipe: Recipe, facts: DataFacts, machine: Machine, world: World) -> int:
    """How many processes hold one model together; all of them find out at the same time."""
    if world.size == 1:
        return 1
    with shapes_only():
        model = DiffusionModel(recipe.trained_spec(facts))
        sharing = choose_sharing(recipe.parallel, model, world, machine.device, recipe.training.averages)
    return world.size // sharing.replicate if sharing.in_shards else 1


def _memory(recipe: Recipe, facts: DataFacts, machine: Machine, shards: int, program: int, waiting: Waiting) -> Memory:
    """What a process holds of the training, of which it may have a shard; it asks no other process."""
    with shapes_only():
        model = DiffusionModel(recipe.trained_spec(facts))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return memory_of(recipe, facts, parameters // shards, machine.compute_dtype, program, waiting)
