"""The cache of one data set under one set of encoders: its sections, their makers, and how they are opened together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from open_ldm.autoencoders.base import Autoencoder
from open_ldm.data.buckets import Buckets
from open_ldm.data.columns import columns_of
from open_ldm.data.measures import Measure
from open_ldm.data.sample import Source
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.cache.build import Work, fill
from open_ldm.encoded.cache.columns import ROWS_PER_SHARD as COLUMNS_PER_SHARD
from open_ldm.encoded.cache.columns import ColumnsMaker, columns_plan
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.encoded.cache.latents import LatentsMaker, latents_plan
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.measures import ROWS_PER_SHARD as MEASURES_PER_SHARD
from open_ldm.encoded.cache.measures import MeasuresMaker, measures_plan
from open_ldm.encoded.cache.reader import CachedData
from open_ldm.encoded.cache.samples import ROWS_PER_SHARD, SamplesMaker, samples_plan
from open_ldm.encoded.cache.section import Section
from open_ldm.encoded.cache.text import TextMaker, text_plan
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class CaptionSettings:
    """How captions are read. With `all_positions` the model also reads the encoder's output where a caption has no token."""

    encoder: TextEncoder
    all_positions: bool


@dataclass(frozen=True)
class Part:
    """One section and the maker of its shards; `label` names its rows for people."""

    label: str
    section: Section
    maker: LatentsMaker | TextMaker | MeasuresMaker | ColumnsMaker | SamplesMaker

    def fill(self, work: Work) -> None:
        """Make the missing shards."""
        fill(self.section, lambda shards: self.maker.make(self.section, shards, work), work)


class Cache:
    """The cache of one data set under one set of encoders. It is a context manager, since it holds claims on shards.

    Args:
        config: Where the cache is, and how it is stored.
        source: The data set.
        pictures: The source's `content_hash`.
        transform: How views are cut.
        views: Number of fixed views of each picture.
        autoencoder: The autoencoder.
        captions: How captions are read; None when the model reads none or the source has none.
        device: The autoencoder's device.
        workers: Number of processes that read pictures.
        measures: What the model's controls read of whole pictures.
        columns: Columns of metadata that they read.
        buckets: The shape of each picture's views; None where all have one.
        frozen: Whether its sections must be there already; nothing is begun.

    Raises:
        DataError: A section that must be there is not.
    """

    def __init__(
        self,
        config: CacheConfig,
        source: Source,
        pictures: str,
        transform: TransformConfig,
        views: int,
        autoencoder: Autoencoder,
        captions: CaptionSettings | None,
        device: torch.device,
        workers: int,
        measures: Sequence[Measure] = (),
        columns: Sequence[str] = (),
        buckets: Buckets | None = None,
        *,
        frozen: bool = False,
    ) -> None:
        self.config, self.source = config, source
        begun = partial(Section, begins=not frozen)
        hashes, length = source.hashes, len(source)
        self.latents = []
        for view in range(views):
            maker = LatentsMaker(source, transform, view, autoencoder, config, device, workers, buckets)
            plan = latents_plan(pictures, length, transform, view, autoencoder, config)
            section = begun(config.path, plan, self._rows_per_shard(maker), config.batch_size)
            self.latents.append(Part(f"view {view + 1} of {views}", section, maker))
        self.text: Part | None = None
        if captions is not None:
            reader = TextMaker(source, captions.encoder, config, all_positions=captions.all_positions)
            text = text_plan(hashes.captions, length, captions.encoder, config, all_positions=captions.all_positions)
            self.text = Part("captions", begun(config.path, text, self._rows_per_shard(reader)), reader)
        self.measures: Part | None = None
        if measures:
            measured = begun(
                config.path, measures_plan(pictures, length, measures), lambda: MEASURES_PER_SHARD, config.batch_size
            )
            self.measures = Part("measures", measured, MeasuresMaker(source, measures, workers))
        self.columns: Part | None = None
        if columns:
            values = columns_plan(hashes.pictures, columns_of(source), columns, length)
            section = begun(config.path, values, lambda: COLUMNS_PER_SHARD)
            self.columns = Part("metadata", section, ColumnsMaker(source, columns))
        named = samples_plan(hashes, length, source.class_names)
        self.samples = Part("labels and ids", begun(config.path, named, lambda: ROWS_PER_SHARD), SamplesMaker(source))

    @property
    def parts(self) -> list[Part]:
        """All sections; those that are quick to make come first."""
        own = (self.text, self.measures, self.columns)
        return [self.samples, *(part for part in own if part is not None), *self.latents]

    def open(self) -> CachedData:
        """Open the finished sections for reading. Raises DataError when one is not finished."""
        return CachedData(
            latents=[MappedSection(part.section) for part in self.latents],
            text=None if self.text is None else MappedSection(self.text.section),
            samples=MappedSection(self.samples.section),
            length=len(self.source),
            measures=None if self.measures is None else MappedSection(self.measures.section),
            columns=None if self.columns is None else MappedSection(self.columns.section),
        )

    def unused(self) -> Iterator[str]:
        """Find the names of sections in the same folder that belong to other settings."""
        own = {part.section.path.name for part in self.parts}
        yield from sorted(
            layout.parent.name for layout in self.config.path.glob("*/section.json") if layout.parent.name not in own
        )

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            part.section.close()

    def _rows_per_shard(self, maker: LatentsMaker | TextMaker) -> Callable[[], int]:
        return partial(maker.rows_per_shard, self.config.shard_bytes(len(self.source)))
