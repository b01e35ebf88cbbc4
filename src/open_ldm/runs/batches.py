"""Where a run's batches come from: pictures encoded as they come, or a cache, which is filled first where it is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from open_ldm.autoencoders import LatentStats, MeasuredStats
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.core.distributed import World
from open_ldm.core.signals import StopRequest
from open_ldm.data.content import fingerprint_of
from open_ldm.data.health import Health
from open_ldm.data.sample import Source
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.encoded.cache.reader import CacheReader, ToDevice
from open_ldm.model.spec import DataFacts
from open_ldm.runs.build import (
    Encoders,
    encoder_of,
    label_order_of,
    latent_stats_of,
    measured_ranges,
    read_live,
    workers_of,
)
from open_ldm.runs.cache_filler import CacheFiller, cache_of, content_of
from open_ldm.runs.recipe import Recipe


@dataclass(frozen=True)
class Batches:
    """`batches`: one item for each range of positions, in order, which `encoder` makes an EncodedBatch of. `latent_stats`:
    the recipe's, given, or measured on the first views training will see. `fingerprint`: hash of the data as they are read:
    of all bytes of a cache, of the index and a sample of the pictures where they are encoded as they come.
    """

    fingerprint: str
    batches: Callable[[Iterable[Sequence[int]]], Iterator[Any]]
    encoder: LiveEncoder | ToDevice
    latent_stats: Callable[[], LatentStats]


def live_batches(recipe: Recipe, source: Source, facts: DataFacts, encoders: Encoders) -> Batches:
    """Read and encode every batch when its turn comes."""
    return Batches(
        fingerprint=fingerprint_of(source),
        batches=partial(read_live, recipe, source),
        encoder=encoder_of(recipe, facts, source, encoders),
        latent_stats=partial(latent_stats_of, recipe, source, encoders.autoencoder, encoders.machine),
    )


def cached_batches(
    recipe: Recipe,
    source: Source,
    facts: DataFacts,
    encoders: Encoders,
    health: Health,
    stop: StopRequest,
    world: World,
    *,
    silent: bool,
) -> Batches:
    """Read a cache, after making what it lacks. Bad samples met when it was made count as met now.

    Raises DataError when there are too many, StoppedError on a stop signal.
    """
    with cache_of(recipe, source, content_of(source, stop, world, silent=silent), encoders) as cache:
        CacheFiller(cache, health, stop, world, silent=silent).fill()
        data = cache.open()
    reader = CacheReader(data, recipe.training.seed, recipe.conditioning.controls, label_order_of(recipe, facts, source))
    encoder = ToDevice(encoders.machine.device)
    batches = partial(reader.batches, threads=workers_of(recipe))

    def latent_stats() -> LatentStats:
        if not isinstance(recipe.latent_stats, MeasuredStats):
            return given(recipe.latent_stats, encoders.autoencoder.channels)
        return measure(encoder.encode(batch).posterior for batch in batches(measured_ranges(recipe.latent_stats)))

    return Batches(data.content_hash, batches, encoder, latent_stats)
