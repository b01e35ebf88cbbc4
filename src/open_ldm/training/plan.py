"""Which positions of the sample order each process reads, in which portions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """A global batch of `batch_size` pictures, cut over processes and into micro-batches, whose number never changes it.

    With `strided`, of W processes number r has every W-th position from number r on, as the windowed order needs; otherwise
    each has neighbouring positions, as runs that began before there was a choice go on with.
    """

    batch_size: int
    micro_batch_size: int
    world: World
    strided: bool = False

    @property
    def micro_batches(self) -> int:
        """Forward passes per update and process."""
        return self.batch_size // self.world.size // self.micro_batch_size

    def ranges(self, start: int) -> Iterator[range]:
        """Positions of every micro-batch of this process, from global position `start` on, without end."""
        rank, size = self.world.rank, self.world.size
        share = self.batch_size // size
        for batch in itertools.count(start, self.batch_size):
            own = range(batch, batch + self.batch_size)
            own = own[rank::size] if self.strided else own[rank * share : (rank + 1) * share]
            for begin in range(0, share, self.micro_batch_size):
                yield own[begin : begin + self.micro_batch_size]


def divisors(number: int) -> list[int]:
    """Return the numbers that divide a number, smallest first."""
    return [size for size in range(1, number + 1) if number % size == 0]


def plan_batches(batch_size: int, micro_batch_size: int | None, world: World, *, strided: bool = False) -> BatchPlan:
    """Cut a global batch evenly.

    Args:
        batch_size: Pictures per update over all processes.
        micro_batch_size: Pictures per forward pass; None for a process's whole share.
        world: The processes that train together.
        strided: As in `BatchPlan`.

    Returns:
        The plan of this process.

    Raises:
        ConfigError: The batch cannot be cut evenly; the error lists the possible values.
    """
    if batch_size % world.size:
        legal = [size for size in range(1, min(batch_size, 128) + 1) if batch_size % size == 0]
        raise ConfigError(
            f"training.batch_size={batch_size} cannot be shared by {world.size} processes",
            needed=f"a number of processes out of {', '.join(map(str, legal))}",
        )
    share = batch_size // world.size
    micro = micro_batch_size or share
    if share % micro:
        legal = divisors(share)
        raise ConfigError(
            f"training.micro_batch_size={micro} does not divide the {share} pictures of one process",
            needed=f"one of {', '.join(map(str, legal))}",
        )
    return BatchPlan(batch_size, micro, world, strided)
