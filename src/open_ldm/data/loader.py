"""Source -> transform -> Batch, read ahead by worker processes.

A batch is a function of (source, transform, seed, positions) alone: number of workers, prefetching and restarts change
nothing, because the order, every draw and every replacement are keyed by position.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from pydantic import Field
from torch.utils.data import DataLoader, Dataset

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.core.seeds import key
from open_ldm.data.holdout import HoldoutConfig, Part, PartName
from open_ldm.data.order import reserve_at, sample_at
from open_ldm.data.sample import BadPicture, BadSample, Batch, Sample, Source, View, collate
from open_ldm.data.sources import SourceConfig, open_source
from open_ldm.data.transforms import TransformConfig, transform

_MOST_REPLACEMENTS = 64
_BATCHES_AHEAD_PER_WORKER = 2


class DataConfig(Config):
    """Pictures, how views are cut from them, and how many processes read them (null: chosen by `default_workers`).

    `holdout`: a share of the pictures that training leaves out.
    """

    source: SourceConfig
    holdout: HoldoutConfig | None = None
    transform: TransformConfig
    workers: int | None = Field(default=None, ge=0, le=256)


def open_data(config: DataConfig, part: PartName = "train") -> Source:
    """The data set, or the part of it that training sees or never sees. Raises ConfigError when nothing is held out."""
    source = open_source(config.source)
    if config.holdout is not None:
        return Part(source, config.holdout, part)
    if part == "held_out":
        raise ConfigError("no part of this data is held out", fix="data.holdout={share: 0.1} before training")
    return source


def default_workers() -> int:
    """Half the processors this process may use, at most 8; 0 where there is only one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable // 2)


@dataclass(frozen=True)
class ReadView:
    """One view and the bad samples met before a usable one was found."""

    view: View
    bad: tuple[BadSample, ...]


def read_view(source: Source, transform_config: TransformConfig, seed: int, position: int) -> ReadView:
    """Read the view for one position of the sample order.

    A bad sample is replaced from the reserve of its position. In a source with captions, a picture without one has the
    empty caption. Raises DataError when 64 replacements in a row are bad.
    """
    bad: list[BadSample] = []
    index = sample_at(seed, position, len(source))
    while len(bad) <= _MOST_REPLACEMENTS:
        try:
            sample = source[index]
        except BadPicture as verdict:
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
            index = reserve_at(seed, position, len(bad) - 1, len(source))
            continue
        original_size = (sample.original_height_px, sample.original_width_px)
        made = transform(sample.pixels, original_size, transform_config, seed, position)
        caption = _caption(sample, seed, position, captioned=source.summary.captioned > 0)
        return ReadView(View(sample.id, position, made.pixels, made.record, sample.label, caption), tuple(bad))
    raise DataError(
        f"{len(bad)} samples in a row cannot be used, the last one {bad[-1].id} ({bad[-1].reason})",
        fix="check that the disk is there and the pictures are whole",
    )


def read_batches(
    source: Source,
    transform: TransformConfig,
    *,
    seed: int,
    position_ranges: Iterable[Sequence[int]],
    workers: int,
) -> Iterator[Batch]:
    """One Batch per item of `position_ranges`, in order. The iterable may be endless; it is read a few items ahead.

    `workers`: processes that read ahead; 0 reads in this one. They end when the iterator is closed or dropped.
    Raises DataError when samples cannot be replaced or a worker dies; errors raised in a worker arrive as they are.
    """
    reader = _BatchReader(source, transform, seed)
    if workers == 0:
        for positions in position_ranges:
            yield reader.read(positions)
        return
    batches = _started(reader, position_ranges, workers)
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
                    f"a data worker died: {error}", fix="set data.workers=0, or give it more (shared) memory"
                ) from error
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch
    finally:
        _end(batches)


@dataclass(frozen=True)
class _Failure:
    """An error on its way out of a worker: torch would turn a raised one into a page of traceback."""

    error: OpenLdmError


class _BatchReader(Dataset[Batch | _Failure]):
    """What a worker holds. torch hands `__getitems__` the positions of a whole batch."""

    def __init__(self, source: Source, transform_config: TransformConfig, seed: int) -> None:
        self._source = source
        self._transform = transform_config
        self._seed = seed

    def read(self, positions: Sequence[int]) -> Batch:
        """The batch of these positions."""
        views = [read_view(self._source, self._transform, self._seed, position) for position in positions]
        return collate([each.view for each in views], tuple(bad for each in views for bad in each.bad))

    def __getitems__(self, positions: Sequence[int]) -> Batch | _Failure:
        try:
            return self.read(positions)
        except OpenLdmError as error:
            return _Failure(error)


def _started(reader: _BatchReader, position_ranges: Iterable[Sequence[int]], workers: int) -> Iterator[Batch | _Failure]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # the user's number stands
        loader = DataLoader(
            reader,
            batch_sampler=cast("Iterable[list[int]]", position_ranges),
            collate_fn=_as_read,
            num_workers=workers,
            prefetch_factor=_BATCHES_AHEAD_PER_WORKER,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator().manual_seed(0),  # else torch draws from the global generator
        )
        return iter(loader)


def _end(batches: Any) -> None:
    """End the worker processes now.

    torch leaves this to garbage collection, which an exception that is being handled delays; a process forked meanwhile
    inherits the iterator and tears down queues that are not its own. Hence the private method, which acts only once.
    Workers ignore SIGTERM, so one that is stuck after torch's five seconds of patience must be killed.
    """
    with suppress(RuntimeError):  # a worker that dies now has nothing left to lose
        batches._shutdown_workers()
    for worker in batches._workers:
        worker.kill()
        worker.join(timeout=5)


def _as_read(batch: Any) -> Any:
    return batch  # already a Batch, or a _Failure


def _ignore_signals(_: int) -> None:
    # A stop signal reaches the whole process group; the trainer decides, and workers end when it lets go of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _caption(sample: Sample, seed: int, position: int, *, captioned: bool) -> str | None:
    if sample.captions:
        return sample.captions[key(seed, "caption", position) % len(sample.captions)]
    return "" if captioned else None
