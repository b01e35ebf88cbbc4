"""Stateless randomness: every random number is a function of (seed, purpose, sample position).

No generator survives a step, so a killed run resumes bit-equal, and the number of workers, ranks or micro-batches changes no
random number (docs/reliability.md section 3.2). One long `randn` is never sliced, because its values depend on its length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from open_ldm.core.device import moved


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


_KINDS = {"normal": normal, "uniform": uniform}
Wanted = tuple[str, str, tuple[int, ...]]
"""Random numbers of a batch: their kind, their purpose and the shape of a row."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of one micro-batch of a training step, independent of the number of processes and micro-batches.

    Attributes:
        seed: The run's seed.
        positions: Positions of the micro-batch's samples in the order of samples.
        batch_size: Size of the global batch, whose micro-batches share `shared_uniform`.
        device: Where the numbers go.
        asked: What batches like this one were asked for so far; they share it, and each adds to it.
        made: Numbers that are drawn already.
    """

    seed: int
    positions: tuple[int, ...]
    batch_size: int
    device: torch.device
    asked: dict[Wanted, None] = field(default_factory=dict, compare=False)
    made: Mapping[Wanted, Tensor] = field(default_factory=dict, compare=False)

    def drawn(self) -> Draws:
        """Return the same numbers, of which those are drawn already that earlier batches were asked for."""
        return replace(self, made={wanted: self._draw(wanted) for wanted in tuple(self.asked)})

    def normal(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw standard normal numbers [B, *shape]; each row depends on its sample's position alone."""
        return self._take(("normal", purpose, tuple(shape)))

    def uniform(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        """Draw uniform numbers in [0, 1) [B, *shape]; each row depends on its sample's position alone."""
        return self._take(("uniform", purpose, tuple(shape)))

    def shared_uniform(self, purpose: str) -> float:
        """Draw one uniform number in [0, 1) for the whole global batch."""
        return float(uniform(self.seed, purpose, [self.positions[0] // self.batch_size])[0])

    def _take(self, wanted: Wanted) -> Tensor:
        self.asked[wanted] = None
        made = self.made.get(wanted)
        return self._draw(wanted) if made is None else made

    def _draw(self, wanted: Wanted) -> Tensor:
        kind, purpose, shape = wanted
        return moved(_KINDS[kind](self.seed, purpose, self.positions, shape), self.device)
