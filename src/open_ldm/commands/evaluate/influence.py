"""Control influence of a run: the same seeds and semantic conditions under several values of one control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from open_ldm.commands.evaluate.config import LAYERED, InfluenceMetric
from open_ldm.commands.evaluate.controlled import SIDES, ControlledSamples, control_of, values_of
from open_ldm.commands.evaluate.pictures import SampledPictures
from open_ldm.core.distributed import World
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.metrics.control_influence import ControlInfluenceConfig, ControlledPictures, pair_distances
from open_ldm.evaluation.protocol import Result, seeds_in_words


@dataclass(frozen=True)
class Influence:
    """Numbers with protocols, and `table`: 'a|b' -> mean distance of the pictures under values a and b."""

    results: tuple[Result, ...]
    table: Mapping[str, float]


def measure_influence(
    pictures: SampledPictures,
    metric: InfluenceMetric,
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: Callable[[int], None] = lambda done: None,
    samples: ControlledSamples | None = None,
) -> Influence:
    """Measure how far samples of one seed differ under different values of one control.

    Args:
        pictures: The run to sample from.
        metric: The control, its values and the number of seeds.
        extractors: The first one with layers is used, or else the first.
        bootstrap: Settings of the intervals.
        world: The processes that share the seeds.
        on_seeds: Called with the number of seeds done by this process.
        samples: Where other metrics find the same pictures; None samples them for this one alone.

    Raises:
        ConfigError: The run was not trained with the control, or a value cannot be read.
    """
    world = world or World()
    extractor = layered(extractors)
    config = influence_config(pictures, metric, extractor)
    seeds = pictures.seeds[: metric.pictures]

    def batches() -> Iterator[ControlledPictures]:
        """Sample the share of this process under all values."""
        drawn = ControlledSamples(pictures) if samples is None else samples
        for batch in drawn.batches(config.control, config.values, seeds, world, on_seeds):
            yield ControlledPictures({value: to_images(each) for value, each in batch.pixels.items()}, batch.seeds)

    pairs = pair_distances(batches(), extractor, config, world=world)
    sampling = {**pictures.sampling, "seeds": seeds_in_words(seeds)}
    return Influence(pairs.results(bootstrap, sampling), {"|".join(pair): value for pair, value in pairs.table().items()})


def layered(extractors: Sequence[FeatureExtractor]) -> FeatureExtractor:
    """Return the first extractor with layers, or else the first."""
    return next((one for one in extractors if has_layers(one)), extractors[0])


def has_layers(extractor: FeatureExtractor) -> bool:
    """Whether an extractor gives maps of its layers, not a vector alone."""
    return extractor.id.name.split(" ")[0] in LAYERED


def influence_config(pictures: SampledPictures, metric: InfluenceMetric, extractor: FeatureExtractor) -> ControlInfluenceConfig:
    """Return the metric's settings with the values that suit this run. Raises ConfigError for an unknown control."""
    control_of(pictures, metric.control, metric.kind)
    values, small = metric.values, metric.small
    if values is None:
        values = values_of(pictures, metric.control, None, metric.kind)
        if metric.control == "size" and small is None:
            small = tuple(words for side, words in zip(SIDES, values, strict=True) if side < 1)
    over = metric.over or ("layers" if has_layers(extractor) else "vectors")
    return ControlInfluenceConfig(control=metric.control, values=values, small=small or (), over=over)
