"""Where a run's batches come from: pictures encoded as they come, or a cache, which is filled first where it is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from open_ldm.autoencoders import Autoencoder, LatentStats, MeasuredStats
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.data.health import Health
from open_ldm.data.loader import read_batches
from open_ldm.data.sample import Source
from open_ldm.encoded.batch import BatchEncoder
from open_ldm.encoded.cache.reader import CacheReader, ToDevice
from open_ldm.model.diffusion import ModelFacts
from open_ldm.runs.assemble import encoder_of, label_order_of, latent_stats_of, measured_ranges, workers_of
from open_ldm.runs.encode import CacheFiller, cache_of
from open_ldm.runs.recipe import Recipe
from open_ldm.text.words import WordsEncoder
from open_ldm.training.signals import StopRequest


@dataclass(frozen=True)
class Reading:
    """`batches`: one item for each range of positions, in order, which `encoder` makes an EncodedBatch of. `latent_stats`:
    the recipe's, given, or measured on the first views training will see. `fingerprint`: hash of the data as they are read.
    """

    fingerprint: str
    batches: Callable[[Iterable[Sequence[int]]], Iterator[Any]]
    encoder: BatchEncoder
    latent_stats: Callable[[], LatentStats]


def live_reading(
    recipe: Recipe,
    source: Source,
    facts: ModelFacts,
    autoencoder: Autoencoder,
    text_encoder: WordsEncoder | None,
    machine: Machine,
) -> Reading:
    """Read and encode every batch when its turn comes."""

    def batches(position_ranges: Iterable[Sequence[int]]) -> Iterator[Any]:
        return read_batches(
            source,
            recipe.data.transform,
            seed=recipe.training.seed,
            position_ranges=position_ranges,
            workers=workers_of(recipe),
            views=recipe.data.views,
        )

    encoder = encoder_of(recipe, facts, autoencoder, machine, source, text_encoder)
    stats = partial(latent_stats_of, recipe, source, autoencoder, machine)
    return Reading(source.fingerprint, batches, encoder, stats)


def cached_reading(
    recipe: Recipe,
    source: Source,
    facts: ModelFacts,
    autoencoder: Autoencoder,
    text_encoder: WordsEncoder | None,
    machine: Machine,
    *,
    health: Health,
    stop: StopRequest,
    world: World,
    silent: bool,
) -> Reading:
    """Read a cache, after making what it lacks. Bad samples met when it was made count as met now.

    Raises DataError when there are too many, StoppedError on a stop signal.
    """
    with cache_of(recipe, source, autoencoder, text_encoder, machine) as cache:
        CacheFiller(cache, health, stop, world, silent=silent).fill()
        data = cache.open()
    reader = CacheReader(data, recipe.training.seed, recipe.conditioning.controls, label_order_of(recipe, facts, source))
    encoder = ToDevice(machine.device)
    batches = partial(reader.batches, threads=workers_of(recipe))

    def latent_stats() -> LatentStats:
        if not isinstance(recipe.latent_stats, MeasuredStats):
            return given(recipe.latent_stats, autoencoder.channels)
        ranges = measured_ranges(recipe.latent_stats)
        return measure(encoder.encode(batch).posterior.mean for batch in batches(ranges))

    return Reading(data.content_hash, batches, encoder, latent_stats)
