"""Source -> transform -> Batch, read ahead by worker processes.

A batch is a function of (source, transform, seed, positions) alone: number of workers, prefetching and restarts change
nothing, because the order, every draw and every replacement are keyed by position (or by sample and view number).
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from pydantic import Field, model_validator
from torch.utils.data import DataLoader, Dataset

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.core.seeds import key
from open_ldm.data.content import unreadable
from open_ldm.data.holdout import HoldoutConfig, PartName, part_of
from open_ldm.data.order import ViewPlace, fixed_view, reserve_at, view_at
from open_ldm.data.sample import BadPicture, BadSample, Batch, Sample, Source, View, collate
from open_ldm.data.sources import SourceConfig, channels_of, open_source
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform

_MOST_REPLACEMENTS = 64
_BATCHES_AHEAD_PER_WORKER = 2


class DataConfig(Config):
    """Pictures, how views are cut from them, and how many processes read them (null: chosen by `default_workers`).

    `holdout`: a share of the pictures that training leaves out. `views`: fixed views of each picture, taken in turn, one an
    epoch; null cuts a fresh one at every position. A cache holds fixed views. `display`: which channels of a source with
    `channels`, counted from 0, people are shown as red, green and blue; null shows all of them (core/display.py).
    """

    source: SourceConfig
    holdout: HoldoutConfig | None = None
    transform: TransformConfig
    views: int | None = Field(default=None, ge=1, le=10_000)
    workers: int | None = Field(default=None, ge=0, le=256)
    display: tuple[int, int, int] | None = None

    @property
    def channels(self) -> int:
        """Of every picture."""
        return channels_of(self.source) or 3

    def suits(self, channels: int) -> bool:
        """Whether an autoencoder that reads so many channels can read the pictures: just so many, or RGB as grey."""
        return channels == self.channels or (channels == 1 and channels_of(self.source) is None)

    @model_validator(mode="after")
    def _display_is_there(self) -> DataConfig:
        channels = channels_of(self.source)
        if self.display is not None and (channels is None or not all(0 <= one < channels for one in self.display)):
            has = "is for sources that are given channels" if channels is None else f"of {channels} channels"
            raise ValueError(f"display={list(self.display)} {has}; needed: three numbers from 0 to channels - 1, or null")
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> DataConfig:
        if (self.views or 1) > 1 and isinstance(self.transform.crop, CenterCrop) and self.transform.flip in (0, 1):
            raise ValueError(f"views={self.views} would all be the same, since nothing is drawn; needed: views=1 or null")
        return self


def open_data(config: DataConfig, part: PartName = "train") -> Source:
    """The data set, or the part of it that training sees or never sees. Raises ConfigError when nothing is held out."""
    source = open_source(config.source)
    if config.holdout is not None:
        return part_of(source, config.holdout, part)
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


def read_view(
    source: Source,
    transform_config: TransformConfig,
    seed: int,
    position: int,
    views: int | None = None,
    *,
    for_keeps: bool = False,
) -> ReadView:
    """Read the view for one position of the sample order: a fresh one, or the fixed one whose turn it is.

    A bad sample is replaced from the reserve of its place. In a source with captions, a picture without one has the empty
    caption; of several one is drawn for the position. Raises DataError when 64 replacements in a row are bad, and with
    `for_keeps`, where what is made of the picture outlives the run, also when a disk does not give one.
    """
    sample, read = _read(source, transform_config, view_at(seed, position, len(source), views), for_keeps)
    caption = drawn_caption(sample.captions, seed, position, captioned=source.summary.captioned > 0)
    return replace(read, view=replace(read.view, position=position, caption=caption))


def read_fixed_view(source: Source, transform_config: TransformConfig, view: int, index: int) -> ReadView:
    """Read fixed view number `view` of sample `index`, which stands for its position; no caption is drawn for it.

    For keeps: raises DataError when a disk does not give a picture.
    """
    return _read(source, transform_config, fixed_view(index, view, len(source)), for_keeps=True)[1]


def _read(source: Source, transform_config: TransformConfig, place: ViewPlace, for_keeps: bool) -> tuple[Sample, ReadView]:
    """The view of a place, or of a replacement for a bad sample, without a caption."""
    bad: list[BadSample] = []
    index = place.index
    while len(bad) <= _MOST_REPLACEMENTS:
        try:
            sample = source[index]
        except BadPicture as verdict:
            if verdict.of_disk and for_keeps:
                raise unreadable(source.sample_id(index), verdict) from verdict
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
            index = reserve_at(place.seed, place.number, len(bad) - 1, len(source))
            continue
        original_size = (sample.original_height_px, sample.original_width_px)
        made = transform(sample.pixels, original_size, transform_config, place.seed, place.number)
        view = View(sample.id, place.index, made.pixels, made.record, sample.label, None, index)
        return sample, ReadView(view, tuple(bad))
    raise DataError(
        f"{len(bad)} samples in a row cannot be used, the last one {bad[-1].id} ({bad[-1].reason})",
        fix="check that the disk is there and the pictures are whole",
    )


def drawn_caption(captions: Sequence[str], seed: int, position: int, *, captioned: bool) -> str | None:
    """The caption that stands at a position: one of several, the empty one for none, None in a source without captions."""
    if captions:
        return captions[drawn_number(len(captions), seed, position)]
    return "" if captioned else None


def drawn_number(captions: int, seed: int, position: int) -> int:
    """Which of so many captions stands at a position."""
    return key(seed, "caption", position) % captions


def read_batches(
    source: Source,
    transform: TransformConfig,
    *,
    seed: int,
    position_ranges: Iterable[Sequence[int]],
    workers: int,
    views: int | None = None,
    for_keeps: bool = False,
) -> Iterator[Batch]:
    """One Batch per item of `position_ranges`, in order. The iterable may be endless; it is read a few items ahead.

    `views`: fixed views per sample, None for fresh ones; `for_keeps` as in `read_view`. `workers`: processes that read
    ahead; 0 reads in this one. They end when the iterator is closed or dropped.
    Raises DataError when samples cannot be replaced or a worker dies; errors raised in a worker arrive as they are.
    """
    read = partial(read_view, source, transform, seed, views=views, for_keeps=for_keeps)
    return _batches(read, position_ranges, workers)


def read_fixed_views(
    source: Source, transform: TransformConfig, view: int, index_ranges: Iterable[Sequence[int]], workers: int
) -> Iterator[Batch]:
    """Like `read_batches`, for fixed view number `view` of the samples in `index_ranges`."""
    return _batches(partial(read_fixed_view, source, transform, view), index_ranges, workers)


def _batches(read: Callable[[int], ReadView], ranges: Iterable[Sequence[int]], workers: int) -> Iterator[Batch]:
    reader = _BatchReader(read)
    if workers == 0:
        for positions in ranges:
            yield reader.read(positions)
        return
    batches = _started(reader, ranges, workers)
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

    def __init__(self, read_one: Callable[[int], ReadView]) -> None:
        self._read_one = read_one

    def read(self, positions: Sequence[int]) -> Batch:
        """The batch of these positions."""
        views = [self._read_one(position) for position in positions]
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
