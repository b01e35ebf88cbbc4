"""Stateless randomness: every draw is a function of (seed, purpose, sample position).

Nothing random lives in a generator that survives a step, so a killed run resumes bit-equal and the number of workers,
ranks or micro-batches changes no draw (reliability contract, 3.2). One long `randn` is never sliced: its values depend
on its length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def key(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit number, uniform and independent for each (seed, purpose, position): blake2b of the three."""
    text = f"{seed}/{purpose}/{position}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose at one position."""
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
    """Standard normal draws [len(positions), *shape], float32 on the CPU; row i depends on positions[i] alone."""
    return _per_position(seed, purpose, positions, shape, lambda row, source: row.normal_(generator=source))


def uniform(seed: int, purpose: str, positions: Sequence[int], shape: Sequence[int] = ()) -> Tensor:
    """Uniform draws in [0, 1) [len(positions), *shape], float32 on the CPU; row i depends on positions[i] alone."""
    return _per_position(seed, purpose, positions, shape, lambda row, source: row.uniform_(generator=source))


@dataclass(frozen=True)
class Draws:
    """The draws that one micro-batch of a training step may ask for, whatever the number of processes or micro-batches.

    `positions`: of its samples; `batch_size`: of the global batch, whose draws all its micro-batches share.
    """

    seed: int
    positions: tuple[int, ...]
    batch_size: int
    device: torch.device

    def normal(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal draws [B, *shape], each row its sample's own."""
        return normal(self.seed, purpose, self.positions, shape).to(self.device, non_blocking=True)

    def uniform(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform draws in [0, 1) [B, *shape], each row its sample's own."""
        return uniform(self.seed, purpose, self.positions, shape).to(self.device, non_blocking=True)

    def shared_uniform(self, purpose: str) -> float:
        """One uniform draw in [0, 1) for the whole global batch."""
        return float(uniform(self.seed, purpose, [self.positions[0] // self.batch_size])[0])
