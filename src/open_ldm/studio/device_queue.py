"""One queue for the device: jobs run one at a time in the order in which they came, and each can be cancelled.

All work that computes goes through it, from the pages as from the API, so that two requests never share the device.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.limits import LIMITS, Limits

T = TypeVar("T")
_LOOK_EVERY_SECONDS = 0.25


class BusyError(OpenLdmError):
    """So many jobs wait that no other is taken."""


class CancelledError(OpenLdmError):
    """The job was cancelled, or took longer than one may."""


@dataclass(eq=False)
class Job(Generic[T]):
    """One piece of work. `done` of `total` steps are done; `future` holds the result or the error."""

    work: Callable[[Job[T]], T]
    total: int
    future: Future[T] = field(default_factory=Future)
    done: int = 0
    limit: float = 0.0
    started: float | None = None
    cancelled: bool = False

    def tick(self, done: int) -> None:
        """Note progress; the work calls it after every step. Raises CancelledError when it has to end."""
        self.done = done
        if self.cancelled:
            raise CancelledError("the job was cancelled")
        if self.started is not None and time.monotonic() - self.started > self.limit:
            raise CancelledError(f"the job took more than {self.limit:g} s", fix="ask for fewer steps or pictures")

    def cancel(self) -> None:
        """Take it from the queue, or end it at its next step."""
        self.cancelled = True


@dataclass(frozen=True)
class Progress:
    """Where a job stands: how many are before it (0: it is being worked on), and its steps."""

    before: int
    done: int
    total: int

    @property
    def sentence(self) -> str:
        """For people."""
        if self.before:
            return f"waiting for the device: {self.before} before this one"
        return f"step {self.done} of {self.total}" if self.total else "working"


def _retrieve(ended: asyncio.Future[Any]) -> None:
    """Take note of an error, which the job itself hands on, or asyncio would print that nobody did."""
    if not ended.cancelled():
        ended.exception()


class DeviceQueue:
    """The queue of one device, with one thread that works."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self._waiting: deque[Job[Any]] = deque()
        self._working: Job[Any] | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="device", daemon=True).start()

    def submit(self, work: Callable[[Job[T]], T], total: int = 0) -> Job[T]:
        """Queue a job.

        Args:
            work: Gets the job, and calls its `tick` after every step.
            total: How many steps there will be.

        Raises:
            BusyError: Too many wait already.
        """
        job = Job(work, total, limit=self.limits.seconds)
        with self._changed:
            if len(self._waiting) >= self.limits.waiting:
                raise BusyError(f"{len(self._waiting)} jobs wait for the device", fix="try again later")
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def progress(self, job: Job[Any]) -> Progress:
        """Return where a job stands."""
        with self._changed:
            place = next((place for place, other in enumerate(self._waiting) if other is job), -1)
            before = 0 if place < 0 else place + (self._working is not None)
        return Progress(max(before, int(place >= 0)), job.done, job.total)

    @property
    def length(self) -> int:
        """Jobs that wait or are worked on."""
        with self._changed:
            return len(self._waiting) + (self._working is not None)

    def cancel(self, job: Job[Any]) -> None:
        """Cancel a job that waits or is worked on; nothing happens to one that has ended."""
        job.cancel()
        with self._changed:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
        if waits:
            job.future.set_exception(CancelledError("the job was cancelled"))

    async def follow(self, job: Job[Any]) -> AsyncGenerator[Progress, None]:
        """Yield where a job stands until it has ended. Whoever stops listening, or goes away, cancels it."""
        try:
            ended = asyncio.wrap_future(job.future)
            ended.add_done_callback(_retrieve)
            while not job.future.done():
                yield self.progress(job)
                await asyncio.wait([ended], timeout=_LOOK_EVERY_SECONDS)
        finally:
            if not job.future.done():
                self.cancel(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                job = self._working = self._waiting.popleft()
            job.future.set_running_or_notify_cancel()  # from here on nobody else settles it
            try:
                job.started = time.monotonic()
                job.tick(0)
                result = job.work(job)
            except BaseException as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
            finally:
                with self._changed:
                    self._working = None
