"""Making what the next updates learn from, in a thread of its own, while the device computes this one.

What is made is a function of positions alone, so the thread changes no number, only when it is computed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

from open_ldm.core.launch import processes_here
from open_ldm.core.threads import usable_cores

UPDATES_AHEAD = 2
MOST_AHEAD = 8
"""Micro-batches, which wait on the device for their turn."""

T = TypeVar("T")


def depth_ahead(device: torch.device, micro_batches: int) -> int:
    """Return how many micro-batches are made ahead; 0 where that would take a processor from the training itself.

    On an accelerator the processor is free while the device computes. On a CPU a thread helps only where there are twice as
    many processors as torch's threads, since it computes with a team of as many: two teams on the same processors wait for
    one another, which costs more than it gains.

    Args:
        device: Where the model computes.
        micro_batches: Of one update.
    """
    if device.type not in ("cpu", "cuda"):  # two threads that compute on MPS end the process (pytorch#197805)
        return 0
    if device.type == "cpu" and usable_cores() < 2 * processes_here() * torch.get_num_threads():
        return 0
    return min(UPDATES_AHEAD * micro_batches, MOST_AHEAD)


@dataclass(frozen=True)
class _Failed:
    """What ended the thread; it is raised where the item was asked for."""

    error: BaseException


class Ahead(Generic[T]):
    """Context manager and iterator over items that a thread makes ahead.

    The first item is made by the caller: whatever starts processes does so while no other thread computes.

    Args:
        make: Makes the next item; it is never called twice at the same time.
        count: How many items there are.
        depth: How many are made ahead; with 0 each is made when it is asked for, without a thread.
        device: The device that the thread works for.
    """

    def __init__(self, make: Callable[[], T], count: int, depth: int, device: torch.device) -> None:
        self._make, self._count, self._device = make, count, device
        self._given = 0
        self._made: SimpleQueue[T | _Failed] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._turn = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="made-ahead", daemon=True) if depth and count > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the thread; an item that it is making is finished first, and what was not asked for is dropped."""
        self._ended = True
        if self._thread is not None and self._thread.is_alive():
            self._room.release()
            self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Return the next item; an error that its making met is raised here, as it is."""
        if self._given == self._count:
            raise StopIteration
        first, self._given = self._given == 0, self._given + 1
        if first and self._thread is not None:
            with _children_as_before():
                item = self._make()
            self._thread.start()
            return item
        if self._thread is None:
            return self._make()
        made = self._made.get()
        if isinstance(made, _Failed):
            raise made.error
        self._room.release()
        return made

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context manager in which nothing is made, so that the caller may use the encoders, which serve one at a time."""
        with self._turn:
            yield

    def _work(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)  # of this thread
            for _ in range(self._count - 1):
                self._room.acquire()
                with self._turn:
                    if self._ended:
                        return
                    item = self._make()
                self._made.put(item)
        except BaseException as error:
            self._made.put(_Failed(error))


@contextmanager
def _children_as_before() -> Iterator[None]:
    """Put the handler of ended processes back that torch replaces where it starts workers.

    Its own raises in the main thread, amid an update; whoever reads from the workers finds out too.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
