"""Reading batches of a source through a transform, ahead of time, by worker processes.

A batch is a function of (source, transform, seed, positions) alone. The number of workers, prefetching and restarts change
nothing, because the order, every random number and every replacement are keyed by position (or by sample and view number).
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
from open_ldm.data.holdout import HoldoutConfig, PartName, select_part
from open_ldm.data.order import ViewKey, fixed_view, reserve_at, view_at
from open_ldm.data.sample import BadPicture, BadSample, Batch, Sample, Source, View, collate
from open_ldm.data.sources import SourceConfig, channels_of, check_entangled_views, open_source
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform

_MOST_REPLACEMENTS = 64
_BATCHES_AHEAD_PER_WORKER = 2


class DataConfig(Config):
    """The pictures, how views are cut from them, and how they are read.

    Attributes:
        source: Where the pictures come from.
        holdout: A share of the pictures that training leaves out.
        transform: How a view is cut from a picture.
        views: Number of fixed views of each picture, used in turn, one per epoch; null cuts a new view at every position. A
            cache contains fixed views.
        workers: Number of processes that read; null lets `default_workers` choose.
        display: The channels, counted from 0, that are shown as red, green and blue, for a source with `channels`; null shows
            all of them (core/display.py).
    """

    source: SourceConfig
    holdout: HoldoutConfig | None = None
    transform: TransformConfig
    views: int | None = Field(default=None, ge=1, le=10_000)
    workers: int | None = Field(default=None, ge=0, le=256)
    display: tuple[int, int, int] | None = None

    @property
    def channels(self) -> int:
        """Number of channels of every picture."""
        return channels_of(self.source) or 3

    def suits(self, channels: int) -> bool:
        """Return whether an autoencoder of so many channels can read the pictures: exactly so many, or RGB as grey."""
        return channels == self.channels or (channels == 1 and channels_of(self.source) is None)

    @model_validator(mode="after")
    def _display_is_there(self) -> DataConfig:
        channels = channels_of(self.source)
        if self.display is not None and (channels is None or not all(0 <= shown < channels for shown in self.display)):
            has = "is only for a source with channels" if channels is None else f"of {channels} channels"
            raise ValueError(f"display={list(self.display)} {has}; needed: three numbers from 0 to channels - 1, or null")
        return self

    @model_validator(mode="after")
    def _entangled_views_are_random(self) -> DataConfig:
        check_entangled_views(self.source, self.transform)
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> DataConfig:
        if (self.views or 1) > 1 and isinstance(self.transform.crop, CenterCrop) and self.transform.flip in (0, 1):
            raise ValueError(f"views={self.views} would all be the same, since nothing is random; needed: views=1 or null")
        return self


def open_data(config: DataConfig, part: PartName = "train", *, captions: bool = True) -> Source:
    """Open the data set, or one part of it.

    Args:
        config: The data settings.
        part: With a holdout, the part that training sees (`train`) or never sees (`held_out`).
        captions: As in `open_source`.

    Raises:
        ConfigError: The path is wrong, or `part` is `held_out` and nothing is held out.
        DataError: The content is unusable, or the part is empty.
    """
    source = open_source(config.source, captions=captions)
    if config.holdout is not None:
        return select_part(source, config.holdout, part)
    if part == "held_out":
        raise ConfigError("no part of this data is held out", fix="set data.holdout={share: 0.1} before training")
    return source


def default_workers() -> int:
    """Return half the number of processors that this process may use, at most 8; 0 where there is only one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable // 2)


@dataclass(frozen=True)
class ReadView:
    """One view, and the bad samples that were met before a usable one."""

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
    """Read the view for one position of the sample order.

    A bad sample is replaced by another that depends on its position alone. In a source with captions, a picture without one
    has the empty caption; of several captions one is drawn for the position.

    Args:
        source: The data set.
        transform_config: How the view is cut.
        seed: The run's seed.
        position: The position in the sample order.
        views: Number of fixed views of each picture, used in turn; None cuts a new view.
        for_keeps: The result outlives the run, so a picture that the disk does not give is an error.

    Raises:
        DataError: 64 replacements in a row are bad, or `for_keeps` and a picture cannot be read.
    """
    sample, read = _read(source, transform_config, view_at(seed, position, len(source), views), for_keeps)
    caption = draw_caption(sample.captions, seed, position, captioned=source.summary.captioned > 0)
    return replace(read, view=replace(read.view, position=position, caption=caption))


def read_fixed_view(source: Source, transform_config: TransformConfig, view: int, index: int) -> ReadView:
    """Read fixed view number `view` of sample `index`, without a caption.

    Raises:
        DataError: A picture cannot be read, or 64 replacements in a row are bad.
    """
    return _read(source, transform_config, fixed_view(index, view, len(source)), for_keeps=True)[1]


def _read(source: Source, transform_config: TransformConfig, view_key: ViewKey, for_keeps: bool) -> tuple[Sample, ReadView]:
    """Read a view, or that of a replacement for a bad sample, without a caption."""
    bad: list[BadSample] = []
    index = view_key.index
    while len(bad) <= _MOST_REPLACEMENTS:
        try:
            sample = source[index]
        except BadPicture as verdict:
            if verdict.of_disk and for_keeps:
                raise unreadable(source.sample_id(index), verdict) from verdict
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
            index = reserve_at(view_key.seed, view_key.number, len(bad) - 1, len(source))
            continue
        original_size = (sample.original_height_px, sample.original_width_px)
        made = transform(sample.pixels, original_size, transform_config, view_key.seed, view_key.number, sample.preference)
        view = View(sample.id, view_key.index, made.pixels, made.record, sample.label, None, index)
        return sample, ReadView(view, tuple(bad))
    raise DataError(
        f"{len(bad)} samples in a row cannot be used, the last one {bad[-1].id} ({bad[-1].reason})",
        fix="check that the disk is mounted and the pictures are complete",
    )


def draw_caption(captions: Sequence[str], seed: int, position: int, *, captioned: bool) -> str | None:
    """Draw the caption at a position: one of several, the empty one for none, None in a source without captions."""
    if captions:
        return captions[draw_caption_number(len(captions), seed, position)]
    return "" if captioned else None


def draw_caption_number(captions: int, seed: int, position: int) -> int:
    """Draw which of so many captions is used at a position."""
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
    """Read one Batch per item of `position_ranges`, in order.

    Args:
        source: The data set.
        transform: How views are cut.
        seed: The run's seed.
        position_ranges: Positions of each batch. The iterable may be endless; it is read a few items ahead.
        workers: Number of processes that read ahead; 0 reads in this one. They end when the iterator is closed or dropped.
        views: As in `read_view`.
        for_keeps: As in `read_view`.

    Raises:
        DataError: Samples cannot be replaced, or a worker died. Errors raised in a worker arrive as they are.
    """
    read = partial(read_view, source, transform, seed, views=views, for_keeps=for_keeps)
    return _batches(read, position_ranges, workers)


def read_fixed_views(
    source: Source, transform: TransformConfig, view: int, index_ranges: Iterable[Sequence[int]], workers: int
) -> Iterator[Batch]:
    """Read batches like `read_batches`, of fixed view number `view` of the samples in `index_ranges`."""
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


class _BatchReader(Dataset[Batch | _Failure]):
    """The data set of a worker. torch passes the positions of a whole batch to `__getitems__`."""

    def __init__(self, read_one: Callable[[int], ReadView]) -> None:
        self._read_one = read_one

    def read(self, positions: Sequence[int]) -> Batch:
        """Read the batch of these positions."""
        reads = [self._read_one(position) for position in positions]
        return collate([read.view for read in reads], tuple(bad for read in reads for bad in read.bad))

    def __getitems__(self, positions: Sequence[int]) -> Batch | _Failure:
        try:
            return self.read(positions)
        except OpenLdmError as error:
            return _Failure(error)


def _started(reader: _BatchReader, position_ranges: Iterable[Sequence[int]], workers: int) -> Iterator[Batch | _Failure]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # the user chose the number
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


def _ignore_signals(_: int) -> None:
    # A stop signal reaches the whole process group; the trainer decides, and workers end when it closes the iterator.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
