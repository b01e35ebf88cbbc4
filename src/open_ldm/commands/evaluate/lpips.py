"""LPIPS between pictures of a run that differ in their noise alone: the diversity of its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from open_ldm.commands.evaluate.config import LPIPSMetric
from open_ldm.commands.evaluate.influence import has_layers, layered
from open_ldm.commands.evaluate.pictures import SampledPictures
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_mean
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.metrics.control_influence import ControlInfluenceConfig, ControlledPictures, pair_distances
from open_ldm.evaluation.protocol import Result, build_protocol, seeds_in_words

OTHER_NOISE = 1 << 32
"""Added to a picture's seed for the second of a pair, far from the seeds of others."""
_PROTOCOL = "lpips(one condition, two noises)"
_PAIR = ControlInfluenceConfig(control="noise", values=("own", "other"), small=())


def measure_lpips(
    pictures: SampledPictures,
    metric: LPIPSMetric,
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: Callable[[int], None] = lambda done: None,
) -> Result:
    """Mean distance, over an extractor's layers, of each picture from one of the same class or caption and other noise.

    Raises ConfigError where no extractor has layers.
    """
    world = world or World()
    extractor = layered(extractors)
    if not has_layers(extractor):
        raise ConfigError(
            f"lpips compares layers of an extractor, and {extractor.id.name} gives none",
            needed="lpips, classifier or random",
            fix="--extractor random, or the weights of LPIPS",
        )
    seeds = pictures.seeds[: metric.pictures]

    def batches() -> Iterator[ControlledPictures]:
        """Sample the share of this process twice, from other noise the second time."""
        done = 0
        for chosen in pictures.portions(seeds, world):
            requests = [pictures.request(seed) for seed in chosen]
            other = [replace(request, seed=request.seed + OTHER_NOISE) for request in requests]
            yield ControlledPictures({"own": pictures.images(requests), "other": pictures.images(other)}, tuple(chosen))
            done += len(chosen)
            on_seeds(done)

    pairs = pair_distances(batches(), extractor, _PAIR, world=world)
    sampling = {**pictures.sampling, "seeds": f"{seeds_in_words(seeds)}, and each with 2^32 more"}
    protocol = build_protocol(
        _PROTOCOL,
        pairs.extractor,
        pairs.size_px,
        str(len(pairs.numbers)),
        bootstrap,
        sampling=sampling,
    )
    return Result(estimate_mean("lpips", pairs.distances[:, 0], bootstrap), protocol)
