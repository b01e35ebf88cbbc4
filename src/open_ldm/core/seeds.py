"""Stateless randomness: every random number is a function of (seed, purpose, sample position).

No generator survives a step, so a killed run resumes bit-equal, and the number of workers, ranks or micro-batches changes no
random number (docs/reliability.md section 3.2). One long `randn` is never sliced, because its values depend on its length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def key(seed: int, purpose: str, position: int = 0) -> int:
    """Compute a 63-bit number, uniform and independent for each (seed, purpose, position): blake2b of the three."""
    text = f"{seed}/{purpose}/{position}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """Create a CPU generator for one purpose at one position."""
    return torch.Generator().manual_seed(key(seed, purpose, position))


def _per_position(
    seed: int,
    purpose: str,
    positions: Sequence[int],
    shape: Sequence[int],
    fill: Callable[[Tensor, torch.Generator], object],
) -> Tensor:
    out = torch.empty((len(positions), *shape), dtype=torch.float32)
    source = torch.Generator()
    for row, position in enumerate(positions):
        fill(out[row], source.manual_seed(key(seed, purpose, position)))
    return out


def normal(seed: int, purpose: str, positions: Sequence[int], shape: Sequence[int] = ()) -> Tensor:
    """Draw standard normal numbers [len(positions), *shape], float32 on the CPU; row i depends on positions[i] alone."""
    return _per_position(seed, purpose, positions, shape, lambda row, source: row.normal_(generator=source))


def uniform(seed: int, purpose: str, positions: Sequence[int], shape: Sequence[int] = ()) -> Tensor:
    """Draw uniform numbers in [0, 1) [len(positions), *shape], float32 on the CPU; row i depends on positions[i] alone."""
    return _per_position(seed, purpose, positions, shape, lambda row, source: row.uniform_(generator=source))


@dataclass(frozen=True)
class Draws:
    """Random numbers of one micro-batch of a training step, independent of the number of processes and micro-batches.

    Attributes:
        seed: The run's seed.
        positions: Positions of the micro-batch's samples in the order of samples.
        batch_size: Size of the global batch, whose micro-batches share `shared_uniform`.
        device: Where the numbers go.
    """

    seed: int
    positions: tuple[int, ...]
    batch_size: int
    device: torch.device

    def normal(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw standard normal numbers [B, *shape]; each row depends on its sample's position alone."""
        return normal(self.seed, purpose, self.positions, shape).to(self.device, non_blocking=True)

    def uniform(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw uniform numbers in [0, 1) [B, *shape]; each row depends on its sample's position alone."""
        return uniform(self.seed, purpose, self.positions, shape).to(self.device, non_blocking=True)

    def shared_uniform(self, purpose: str) -> float:
        """Draw one uniform number in [0, 1) for the whole global batch."""
        return float(uniform(self.seed, purpose, [self.positions[0] // self.batch_size])[0])
