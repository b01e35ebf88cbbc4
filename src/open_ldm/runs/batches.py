"""Where a run's batches come from: pictures encoded as they come, or a cache, which is filled first where it is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from open_ldm.autoencoders import LatentStats, MeasuredStats
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.controls.data import columns_of_controls, fit_controls
from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError, DiskError
from open_ldm.core.hashes import hash_content
from open_ldm.core.signals import StopRequest
from open_ldm.data.buckets import Buckets
from open_ldm.data.content import read_fingerprint
from open_ldm.data.health import Health
from open_ldm.data.sample import Source
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.encoded.cache.reader import CacheReader, ToDevice
from open_ldm.model.spec import DataFacts
from open_ldm.runs.build import measure_latent_stats, measured_ranges, read_live, workers_of
from open_ldm.runs.cache_filler import CacheFiller, build_cache, read_content_hash
from open_ldm.runs.cached_source import CachedSource, remember_source
from open_ldm.runs.encoders import Encoders, build_encoder, find_label_order
from open_ldm.runs.ordering import order_of
from open_ldm.runs.recipe import Recipe


@dataclass(frozen=True)
class Batches:
    """Where the batches of a run come from.

    Attributes:
        fingerprint: Hash of the data as they are read: of all bytes of a cache, or of the index and a sample of the pictures.
        read: Gives one item for each range of positions, in order.
        encoder: Makes an EncodedBatch of an item.
        latent_stats: Gives the recipe's latent statistics, or measures them on the first views that training will see.
    """

    fingerprint: str
    read: Callable[[Iterable[Sequence[int]]], Iterator[Any]]
    encoder: LiveEncoder | ToDevice
    latent_stats: Callable[[], LatentStats]

    def agree(self, world: World) -> None:
        """Raise DataError, on every process, where they read different data."""
        world.agreed("data", self.fingerprint, DataError, fix="copy the same data to every machine, or share one disk")

    def stats_of_all(self, world: World) -> LatentStats:
        """The leading process's latent statistics: the last bits of what machines measure may differ."""
        return world.gathered(self.latent_stats(), "latent statistics")[0]


def live_batches(
    recipe: Recipe, source: Source, facts: DataFacts, encoders: Encoders, buckets: Buckets | None = None
) -> Batches:
    """Batches whose pictures are read and encoded when their turn comes.

    Args:
        recipe: Says how they are cut.
        source: The data set.
        facts: Of the model, which orders the labels.
        encoders: Loaded.
        buckets: The shape of each picture's views; None where all have one.

    Raises:
        DataError: The data have classes that the model does not know.
    """
    order = order_of(recipe, source, buckets)
    return Batches(
        fingerprint=_with_buckets(read_fingerprint(source, columns_of_controls(recipe.conditioning.controls)), buckets),
        read=partial(read_live, recipe, source, order),
        encoder=build_encoder(recipe, facts, source, encoders),
        latent_stats=partial(measure_latent_stats, recipe, source, encoders.autoencoder, encoders.machine, order),
    )


def _with_buckets(fingerprint: str, buckets: Buckets | None) -> str:
    """Return the hash of the data and of the bucket of each picture."""
    return fingerprint if buckets is None else hash_content([fingerprint, buckets.fingerprint])


def _remembered(recipe: Recipe, source: Source, pictures: str) -> None:
    """Write the record of the data; a cache that cannot be written is read as ever."""
    with suppress(DiskError):
        remember_source(recipe, source, pictures)


def cached_batches(
    recipe: Recipe,
    source: Source,
    facts: DataFacts,
    encoders: Encoders,
    health: Health,
    stop: StopRequest,
    world: World,
    buckets: Buckets | None = None,
    *,
    silent: bool,
) -> Batches:
    """Batches read from the recipe's cache, which is filled first where it is not whole.

    Args:
        recipe: Says where the cache lies and what it holds.
        source: The data set; of one that only the cache remembers, the cache must be whole.
        facts: Of the model, which orders the labels.
        encoders: Loaded.
        health: Counts bad samples; those met when the cache was made count as met now.
        stop: Ends the filling.
        world: The processes that fill it together.
        buckets: As in `live_batches`.
        silent: No progress is shown.

    Returns:
        The batches of a whole cache.

    Raises:
        DataError: Too many samples are bad, or the data have classes that the model does not know.
        StoppedError: A stop signal came while the cache was filled; the same command goes on.
    """
    frozen = isinstance(source, CachedSource)
    pictures = source.pictures if isinstance(source, CachedSource) else read_content_hash(source, stop, world, silent=silent)
    with build_cache(recipe, source, pictures, encoders, buckets) as cache:
        filler = CacheFiller(cache, health, stop, world, silent=silent)
        if frozen:
            filler.require_sound()
        else:
            filler.spot_check()
            filler.fill()
            world.everyone(partial(_remembered, recipe, source, pictures), "the record of the data")
        data = cache.open()
    controls = fit_controls(recipe.conditioning.controls, facts.view)
    order = order_of(recipe, source, buckets)
    reader = CacheReader(data, recipe.training.seed, controls, find_label_order(recipe, facts, source), order)
    encoder = ToDevice(encoders.machine.device)
    read = partial(reader.batches, threads=workers_of(recipe))

    def latent_stats() -> LatentStats:
        """Return the statistics of latents that the recipe gives, or measure them."""
        if not isinstance(recipe.latent_stats, MeasuredStats):
            return given(recipe.latent_stats, encoders.autoencoder.channels)
        return measure(encoder.encode(batch).posterior for batch in read(measured_ranges(recipe, recipe.latent_stats)))

    return Batches(_with_buckets(data.content_hash, buckets), read, encoder, latent_stats)
