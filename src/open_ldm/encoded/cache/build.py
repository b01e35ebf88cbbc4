"""Filling a section: claim a shard, make it, write it in the background; wait for shards that other processes make."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from open_ldm.core.errors import StoppedError
from open_ldm.core.tasks import Task
from open_ldm.data.sample import BadSample
from open_ldm.encoded.cache.section import Section, ShardContent

_LOOK_AGAIN_SECONDS, _LOOK_AT_MOST_SECONDS = 0.2, 10.0


@dataclass
class Work:
    """What filling a cache reports on the way.

    Attributes:
        progressed: Called with the number of rows that were just encoded.
        found_bad: Called with the bad samples of each shard.
        stop_requested: Polled between batches.
        seconds: Seconds by kind of work.
        bytes_written: Bytes that this process wrote.
        shards_written: Shards that this process wrote.
        task: Which share of the missing shards this process makes first; None takes any.
    """

    progressed: Callable[[int], None] = lambda rows: None
    found_bad: Callable[[Iterable[BadSample]], None] = lambda bad: None
    stop_requested: Callable[[], bool] = lambda: False
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_written: int = 0
    shards_written: int = 0
    task: Task | None = None

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Count the time inside the block as `kind`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - started

    def check_stop(self) -> None:
        """Raise StoppedError when a stop was requested."""
        if self.stop_requested():
            raise StoppedError("encoding was stopped", fix="run the same command again to continue")


def fill(section: Section, make: Callable[[Iterator[int]], Iterator[tuple[int, ShardContent]]], work: Work) -> None:
    """Make every missing shard of a section, together with all other processes that fill it, and index the section.

    Args:
        section: The section to fill.
        make: Turns claimed shard numbers, which it takes one by one, into the shards' contents in the same order.
        work: Where progress is reported.

    Raises:
        StoppedError: A stop was requested.
        DiskError: The disk refuses.
    """
    missing = in_turn(section.missing(), work.task, section.shards)
    wait = _LOOK_AGAIN_SECONDS
    while missing:
        claimed = section.claimed(missing)
        first = next(claimed, None)
        if first is None:
            work.check_stop()
            with work.during("waiting for other processes"):
                time.sleep(wait)
            wait = min(2 * wait, _LOOK_AT_MOST_SECONDS)  # each look lists what is missing, on a disk that others use
        else:  # not before, since `make` starts processes that read
            wait = _LOOK_AGAIN_SECONDS
            with _Writer(section, work) as writer:
                for shard, content in make(itertools.chain([first], claimed)):
                    work.found_bad(content.bad)
                    writer.put(shard, content)
        missing = [shard for shard in missing if not section.is_done(shard)]
    section.finish()


def in_turn(missing: Sequence[int], task: Task | None, shards: int) -> list[int]:
    """Order missing shards as a task makes them: its own stretch of the section first, then what others have yet to begin.

    Args:
        missing: Numbers of shards, increasing.
        task: The task; None for one process, or several that claim whatever comes next.
        shards: Number of all shards.
    """
    if task is None:
        return list(missing)
    own = range((task.number - 1) * shards // task.count, task.number * shards // task.count)
    return [shard for shard in missing if shard in own] + [shard for shard in missing[::-1] if shard not in own]


class _Writer:
    """Writes one shard in the background while the next is made. Leaving waits for it; its errors are raised here."""

    def __init__(self, section: Section, work: Work) -> None:
        self._section, self._work = section, work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache-writer")
        self._under_way: Future[int] | None = None

    def put(self, shard: int, content: ShardContent) -> None:
        """Write a shard once the one before is written."""
        self._settle()
        self._under_way = self._thread.submit(self._section.commit, shard, content)

    def _settle(self) -> None:
        if self._under_way is not None:
            with self._work.during("writing"):
                self._work.bytes_written += self._under_way.result()
            self._work.shards_written += 1
            self._under_way = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._thread.shutdown(wait=True)
