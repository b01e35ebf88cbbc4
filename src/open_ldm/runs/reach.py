"""How near a training comes to what its device can do, and how much memory it has taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from open_ldm.core.device import Machine, device_memory, most_memory
from open_ldm.core.events import duration
from open_ldm.core.peak import peak_speed
from open_ldm.model.count import count_model
from open_ldm.model.spec import ModelSpec


@dataclass(frozen=True)
class Reach:
    """The share of a device's measured peak that a training reaches (MFU, model FLOPs utilisation).

    Counted are the multiply-adds of the forward passes of a training step, and twice as many for the backward pass, one being
    two operations; never what is computed again to save memory.

    Attributes:
        spec: Of the model.
        latent_size: (height, width) of the latents.
        machine: Where each process computes.
        processes: How many there are.
        counted: Whether the share is worked out; on a CPU that nobody watches it costs more than it tells.
        chosen: What was chosen when the run started, in words.
    """

    spec: ModelSpec
    latent_size: tuple[int, int]
    machine: Machine
    processes: int
    counted: bool
    chosen: str = ""

    def share(self, samples_per_second: float) -> float | None:
        """Return the share of the peak at a rate of all processes, in [0, 1]; None where it is not worked out."""
        return samples_per_second / self._most if self.counted else None

    def sentence(self, samples_per_second: float, samples_left: int) -> str:
        """Say how much time is left at a rate, and the most memory that was taken so far."""
        left = duration(samples_left / max(samples_per_second, 1e-9))
        taken, whole = most_memory(self.machine.device), device_memory(self.machine.device)
        memory = "" if taken is None else f"; memory {taken / 1e9:.2f} GB at the most"
        of = "" if taken is None or whole is None else f" of {whole / 1e9:.3g} GB"
        return f"about {left} left{memory}{of}" + (f"; {self.chosen}" if self.chosen else "")

    @cached_property
    def _most(self) -> float:
        """Samples per second at the peak."""
        operations = 3 * 2e9 * count_model(self.spec, self.latent_size).training_gmacs
        return peak_speed(self.machine) * self.processes / operations
