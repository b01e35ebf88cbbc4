"""Threads of one process as the processes of a world."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from open_ldm.core.distributed import World

T = TypeVar("T")


@dataclass(frozen=True)
class ThreadsWorld(World):
    """What `World.gathered` gives between the threads that share a table and a barrier."""

    table: list[Any] = field(default_factory=list)
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def gathered(self, value: T, name: str = "an exchange") -> list[T]:
        self.table[self.rank] = value
        self.barrier.wait(timeout=60)
        found = list(self.table)
        self.barrier.wait(timeout=60)
        return found


def in_threads(size: int, work: Callable[[World], T]) -> list[T]:
    """What the work of each process of a world returns, by rank."""
    table: list[Any] = [None] * size
    barrier = threading.Barrier(size)
    with ThreadPoolExecutor(size) as pool:
        begun = [pool.submit(work, ThreadsWorld(rank, size, table=table, barrier=barrier)) for rank in range(size)]
        return [each.result(timeout=120) for each in begun]
