"""Processes that share long work of unequal length: whoever is done early waits for a piece of the others' work at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from open_ldm.core.distributed import World
from open_ldm.core.failure import Failure
from open_ldm.core.signals import StopRequest, stopped_by

MEET_EVERY_SECONDS = 10.0

T = TypeVar("T")


class Meetings:
    """Meetings of the processes of a world during their work and after it.

    An exchange at the end alone would break where one of them works longer than the limit of a wait (`join_world`), as after a
    kill, when one goes on from more than another. Here that limit is one of a single piece of work.

    Args:
        world: The processes.
        say: Told, in words, whom this process waits for once its own work is done.
        stop: The stop signal of this process. A signal that came to one process ends the work of all at their next meeting.
    """

    def __init__(self, world: World, say: Callable[[str], None], stop: StopRequest) -> None:
        self._world, self._say, self._stop = world, say, stop
        self._pieces, self._last = 0, time.monotonic()
        self._awaited: tuple[int, ...] = ()

    def during(self, pieces: Iterable[T]) -> Iterator[T]:
        """Iterate over the pieces of this process's work, and meet the others between two of them, every few seconds.

        Args:
            pieces: Of the work of this process.

        Yields:
            The pieces.

        Raises:
            OpenLdmError: As for `wait`.
        """
        for piece in pieces:
            yield piece
            self._pieces += 1
            if time.monotonic() - self._last >= MEET_EVERY_SECONDS:
                self._meet(done=False)

    def wait(self) -> None:
        """Wait until every process has come here; all of them come, once each.

        Raises:
            OpenLdmError: Another process failed, or needed longer for a piece of its work than the limit of a wait.
            StoppedError: A stop signal came to one of the processes: the same error on every one.
        """
        while not self._meet(done=True):
            pass

    def _meet(self, *, done: bool) -> bool:
        """Return whether all are done. Raises StoppedError, on all of them, once a stop signal has come to one."""
        if self._world.size == 1:
            return done
        told = self._world.gathered((done, self._pieces, self._stop.name), "a meeting between two pieces of work")
        self._last = time.monotonic()
        awaited = tuple(rank for rank, (one_is_done, *_) in enumerate(told) if not one_is_done)
        signals = [signal for *_, signal in told if signal is not None]
        if signals and awaited:
            raise Failure.of(stopped_by(signals[0])).error()
        if done and awaited and awaited != self._awaited:
            names = ", ".join(f"{self._world.name_of(rank)} ({told[rank][1]:,} pieces done)" for rank in awaited[:4])
            more = f" and {len(awaited) - 4} more" if len(awaited) > 4 else ""
            self._say(f"this process has done its share, and waits for {names}{more}")
            self._awaited = awaited
        return not awaited
