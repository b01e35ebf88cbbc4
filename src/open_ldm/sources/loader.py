"""Reading batches of a source through a transform, ahead of time, by worker processes.

A batch is a function of (source, transform, seed, positions) alone. The number of workers, prefetching and restarts change
nothing, because the order, every random number and every replacement are keyed by position (or by sample and view number).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.seeds import key
from open_ldm.core.threads import usable_cores
from open_ldm.data.buckets import Buckets
from open_ldm.data.columns import columns_of, with_columns
from open_ldm.data.holdout import HoldoutConfig, PartName, select_part
from open_ldm.data.measures import Measure, measure, with_measures
from open_ldm.data.order import FixedViews, Order, ShuffledOrder, ViewKey
from open_ldm.data.order_config import OrderConfig, WindowedOrderConfig
from open_ldm.data.sample import BadPicture, BadSample, Batch, Sample, Source, View, collate, unreadable
from open_ldm.data.stored import expect_streams
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.sources import SourceConfig, channels_of, check_entangled_views, open_source
from open_ldm.sources.workers import read_ahead

_MOST_REPLACEMENTS = 64


class DataConfig(Config):
    """The pictures, how views are cut from them, and how they are read.

    Attributes:
        source: Where the pictures come from.
        holdout: A share of the pictures that training leaves out.
        transform: How a view is cut from a picture.
        views: Number of fixed views of each picture, used in turn, one per epoch; null cuts a new view at every position. A
            cache contains fixed views.
        order: In which order training reads the samples; null chooses by their number when a run begins (`choose_order`).
        workers: Number of processes that read; null lets `default_workers` choose.
        display: The channels, counted from 0, that are shown as red, green and blue, for a source with `channels`; null shows
            all of them (core/display.py).
    """

    source: SourceConfig
    holdout: HoldoutConfig | None = None
    transform: TransformConfig
    views: int | None = Field(default=None, ge=1, le=10_000)
    order: OrderConfig | None = None
    workers: int | None = Field(default=None, ge=0, le=256)
    display: tuple[int, int, int] | None = None

    @property
    def channels(self) -> int:
        """Number of channels of every picture."""
        return channels_of(self.source) or 3

    def suits(self, channels: int) -> bool:
        """Return whether an autoencoder of so many channels can read the pictures: exactly so many, or RGB as grey."""
        return channels == self.channels or (channels == 1 and channels_of(self.source) is None)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("order",))

    @model_validator(mode="after")
    def _windows_have_one_shape(self) -> DataConfig:
        if isinstance(self.order, WindowedOrderConfig) and self.transform.buckets is not None:
            raise ValueError("order.kind=windowed is not for transform.buckets; needed: order.kind=global, or buckets=null")
        return self

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
        cut = self.transform
        if (self.views or 1) > 1 and isinstance(cut.crop, CenterCrop) and cut.flip in (0, 1) and cut.turn == "none":
            raise ValueError(f"views={self.views} would all be the same, since nothing is random; needed: views=1 or null")
        return self


def open_data(config: DataConfig, part: PartName = "train", *, captions: bool = True) -> Source:
    """Open the data set, or one part of it.

    Args:
        config: The data settings.
        part: With a holdout, the part that training sees (`train`) or never sees (`held_out`).
        captions: As in `open_source`.

    Returns:
        The source: its length, its samples by index, and a summary of what was found.

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
    return min(8, usable_cores() // 2)


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
    measures: Sequence[Measure] = (),
    columns: Sequence[str] = (),
    order: Order | None = None,
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
        measures: What is measured of the picture, for the record.
        columns: Columns of metadata whose values the record gets.
        order: Which view each position has; None for the shuffled order of `seed` and `views`.

    Raises:
        DataError: 64 replacements in a row are bad, or `for_keeps` and a picture cannot be read.
    """
    order = order or ShuffledOrder(seed, len(source), views)
    sample, read = _read(source, transform_config, order, order.view_at(position), for_keeps, measures, columns)
    caption = draw_caption(sample.captions, seed, position, captioned=source.summary.captioned > 0)
    return replace(read, view=replace(read.view, position=position, caption=caption))


def read_fixed_view(
    source: Source, transform_config: TransformConfig, view: int, index: int, buckets: Buckets | None = None
) -> ReadView:
    """Read fixed view number `view` of sample `index`, in the shape that `buckets` give it, without a caption.

    Raises:
        DataError: A picture cannot be read, or 64 replacements in a row are bad.
    """
    order = FixedViews(view, len(source), buckets)
    return _read(source, transform_config, order, order.view_at(index), for_keeps=True)[1]


def _read(
    source: Source,
    transform_config: TransformConfig,
    order: Order,
    view_key: ViewKey,
    for_keeps: bool,
    measures: Sequence[Measure] = (),
    columns: Sequence[str] = (),
) -> tuple[Sample, ReadView]:
    """Read a view, or that of a replacement for a bad sample, without a caption."""
    bad: list[BadSample] = []
    index, cut = view_key.index, transform_config.of_shape(view_key.shape)
    while len(bad) <= _MOST_REPLACEMENTS:
        try:
            sample = source[index]
        except BadPicture as verdict:
            if verdict.of_disk and for_keeps:
                raise unreadable(source.sample_id(index), verdict) from verdict
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
            index = order.reserve_at(view_key, len(bad) - 1)
            continue
        original_size = (sample.original_height_px, sample.original_width_px)
        made = transform(sample.pixels, original_size, cut, view_key.seed, view_key.number, sample.preference)
        record = with_measures(made.record, measure(sample, measures)) if measures else made.record
        record = with_columns(record, columns_of(source), columns, index) if columns else record
        view = View(sample.id, view_key.index, made.pixels, record, sample.label, None, index)
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
    measures: Sequence[Measure] = (),
    columns: Sequence[str] = (),
    order: Order | None = None,
) -> Iterator[Batch]:
    """Read one Batch per item of `position_ranges`, in order.

    Args:
        source: The data set.
        transform: How views are cut.
        seed: The run's seed.
        position_ranges: Positions of each batch, whose views have one shape. The iterable may be endless; it is read a few
            items ahead.
        workers: Number of processes that read ahead; 0 reads in this one. They end when the iterator is closed or dropped.
        views: As in `read_view`.
        for_keeps: As in `read_view`.
        measures: As in `read_view`.
        columns: As in `read_view`.
        order: As in `read_view`.

    Raises:
        DataError: Samples cannot be replaced, or a worker died. Errors raised in a worker arrive as they are.
    """
    if isinstance(order, WindowedOrder):
        expect_streams(source, order.streams)
    columns_of(source).prepare(name for name in columns if name in columns_of(source))  # before processes copy the source
    read = partial(
        read_view,
        source,
        transform,
        seed,
        views=views,
        for_keeps=for_keeps,
        measures=measures,
        columns=columns,
        order=order,
    )
    return read_ahead(partial(_read_batch, read), position_ranges, workers)


def read_fixed_views(
    source: Source,
    transform: TransformConfig,
    view: int,
    index_ranges: Iterable[Sequence[int]],
    workers: int,
    buckets: Buckets | None = None,
) -> Iterator[Batch]:
    """Read batches like `read_batches`, of fixed view number `view` of the samples in `index_ranges`."""
    expect_streams(source, max(1, workers))  # each process goes through neighbours
    read = partial(read_fixed_view, source, transform, view, buckets=buckets)
    return read_ahead(partial(_read_batch, read), index_ranges, workers)


def _read_batch(read_one: Callable[[int], ReadView], numbers: Sequence[int]) -> Batch:
    reads = [read_one(number) for number in numbers]
    return collate([read.view for read in reads], tuple(bad for read in reads for bad in read.bad))
