"""Reading ahead in worker processes: what they give, and in which order, is what reading in this process gives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

from open_ldm.core.errors import DataError, OpenLdmError

_BATCHES_AHEAD_PER_WORKER = 2

T = TypeVar("T")


def read_ahead(read: Callable[[Sequence[int]], T], ranges: Iterable[Sequence[int]], workers: int) -> Iterator[T]:
    """Give `read(range)` for each of `ranges`, in order.

    Args:
        read: Reads one batch of numbers. It is copied into every worker.
        ranges: The numbers of each batch. The iterable may be endless; it is read a few items ahead.
        workers: Number of processes that read ahead; 0 reads in this one. They end when the iterator is closed or dropped.

    Raises:
        DataError: A worker died. Errors raised in a worker arrive as they are.
    """
    if workers == 0:
        yield from map(read, ranges)
        return
    batches = _started(_Reader(read), ranges, workers)
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"a data worker died: {error}", fix="set data.workers=0, or give the process more (shared) memory"
                ) from error
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch
    finally:
        _end(batches)


@dataclass(frozen=True)
class _Failure:
    """An error that a worker hands over; torch would turn a raised one into a page of traceback."""

    error: OpenLdmError


class _Reader(Dataset[Any], Generic[T]):
    """The data set of a worker. torch passes the numbers of a whole batch to `__getitems__`."""

    def __init__(self, read: Callable[[Sequence[int]], T]) -> None:
        self._read = read

    def __getitems__(self, numbers: Sequence[int]) -> T | _Failure:
        try:
            return self._read(numbers)
        except OpenLdmError as error:
            return _Failure(error)


def _started(reader: _Reader[T], ranges: Iterable[Sequence[int]], workers: int) -> Iterator[T | _Failure]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # the user chose the number
        loader = DataLoader(
            reader,
            batch_sampler=cast("Iterable[list[int]]", ranges),
            collate_fn=_as_read,
            num_workers=workers,
            prefetch_factor=_BATCHES_AHEAD_PER_WORKER,
            worker_init_fn=_live_and_die_with_the_trainer,
            generator=torch.Generator().manual_seed(0),  # else torch draws from the global generator
        )
        return iter(loader)


def _end(batches: Any) -> None:
    """End the worker processes now.

    torch leaves this to garbage collection, which is delayed while an exception is handled. A process forked meanwhile would
    inherit the iterator and destroy queues that are not its own; hence the private method, which acts only once.
    Workers ignore SIGTERM, so one that is still stuck after torch's timeout of five seconds must be killed.
    """
    with suppress(RuntimeError):  # a worker that dies now does no harm
        batches._shutdown_workers()
    for worker in batches._workers:
        worker.kill()
        worker.join(timeout=5)


def _as_read(batch: Any) -> Any:
    return batch  # already a Batch, or a _Failure


def _live_and_die_with_the_trainer(_: int) -> None:
    """A stop signal reaches the whole process group; the trainer decides, and workers end when it closes the iterator.

    A trainer that is killed closes nothing. torch's workers then look every few seconds whether their parent has changed, and
    never find out where a fork server is that parent, as from Python 3.14 on: the server lives as long as they do.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_without_the_trainer, name="trainer watch", daemon=True).start()


def _end_without_the_trainer() -> None:
    if (trainer := multiprocessing.parent_process()) is not None:
        wait([trainer.sentinel])
        os._exit(1)
