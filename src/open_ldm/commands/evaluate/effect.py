"""Control effect of a run: what a control changes in samples, against real pictures of the same settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import ControlEffectMetric
from open_ldm.commands.evaluate.controlled import (
    ControlledSamples,
    Effect,
    OnSeeds,
    control_of,
    reader_for,
    together,
    values_of,
    warned_of,
)
from open_ldm.commands.evaluate.read_effect import measure_read_effect
from open_ldm.controls import Control, Metadata
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_mean, estimate_share
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics.control_effect import (
    RealStatistic,
    Statistic,
    mirror_effects,
    nearest_value,
    real_statistic,
    slope_effects,
    statistic_of,
)
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.protocol import Result, build_protocol, seeds_in_words
from open_ldm.evaluation.readers.base import PLACE
from open_ldm.sources.loader import read_batches

_SEED = 0
_AT_ONCE = 64
_FLIPS = ("0", "1")


def measure_control_effect(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    data: Source,
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: OnSeeds = lambda done: None,
) -> Effect:
    """Measure how much a control changes what it is there to change.

    Args:
        samples: Of the run.
        metric: The control, its values and the numbers of pictures.
        data: Real pictures; their views are cut as in the run's training.
        extractors: A classifier among them may read places where the metric names no reader.
        bootstrap: Settings of the interval, which is over seeds.
        world: The processes that share the seeds.
        on_seeds: Called with the number of seeds done by this process.

    Raises:
        ConfigError: The run was not trained with the control, or nothing is known of what it should change.
        DataError: Real pictures do not differ between the values.
    """
    world = world or World()
    control = control_of(samples.pictures, metric.control, metric.kind)
    values = values_of(samples.pictures, metric.control, metric.values, metric.kind)
    if isinstance(control, Metadata):
        return measure_read_effect(samples, metric, control, values, data, extractors, bootstrap, world, on_seeds)
    if metric.control == "flip":
        return _of_flip(samples, metric, values, extractors, bootstrap, world, on_seeds)
    return _of_statistic(samples, metric, control, values, data, bootstrap, world, on_seeds)


def _of_flip(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    values: Sequence[str],
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    world: World,
    on_seeds: OnSeeds,
) -> Effect:
    if sorted(values) != list(_FLIPS):
        raise ConfigError(f"control_effect: flip={'|'.join(values)}", needed="the values 0 and 1")
    pictures, seeds = samples.pictures, samples.pictures.seeds[: metric.pictures]
    reader = reader_for(pictures, metric.reader, extractors)
    by_place = reader is not None and PLACE in reader.attributes
    rows, done = [torch.zeros(0, dtype=torch.float64)], list[int]()
    for batch in samples.batches("flip", _FLIPS, seeds, world, on_seeds):
        rows.append(mirror_effects(batch.pixels["0"], batch.pixels["1"], reader))
        done += batch.seeds
    hits = together(world, done, torch.cat(rows))
    seen = reader.id if by_place and reader is not None else ExtractorId("pixels", "none", "none")
    protocol = build_protocol(
        f"control_effect(flip=0|1, {'place' if by_place else 'nearer to the mirror image'})", seen, pictures.size_px,
        str(len(hits)), bootstrap, sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    return Effect(Result(estimate_share("control_effect", hits, bootstrap), protocol), {})


def _of_statistic(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    control: Control,
    values: Sequence[str],
    data: Source,
    bootstrap: BootstrapConfig,
    world: World,
    on_seeds: OnSeeds,
) -> Effect:
    pictures, seeds = samples.pictures, samples.pictures.seeds[: metric.pictures]
    view = pictures.run.known.facts.view
    numbers = [control.read(value, view) for value in values]
    statistic = statistic_of(metric.control, numbers, pictures.size_px)
    real, hash_of_real = _real(samples, metric, control, values, numbers, statistic, data)
    rows, done = [torch.zeros(0, len(values), dtype=torch.float64)], list[int]()
    for batch in samples.batches(metric.control, values, seeds, world, on_seeds):
        rows.append(torch.stack([statistic.measure(batch.pixels[value]) for value in values], dim=1))
        done += batch.seeds
    table = together(world, done, torch.cat(rows))
    found = {value: table[:, column] for column, value in enumerate(values)}
    protocol = build_protocol(
        f"control_effect({metric.control}={'|'.join(real.means)}, {statistic.name})",
        ExtractorId("pixels", "none", "none"), pictures.size_px, str(len(table)), bootstrap,
        reference=hash_of_real, reference_n="|".join(str(count) for count in real.counts.values()),
        sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    effects = estimate_mean("control_effect", slope_effects(found, real.means), bootstrap)
    estimate = warned_of(effects, metric.control, real.left_out)
    details = {
        "statistic": statistic.name,
        "samples": {value: float(each.mean()) for value, each in found.items()},
        "real": dict(real.means),
        "real_pictures": dict(real.counts),
    }
    return Effect(Result(estimate, protocol), {metric.control: details})


def _real(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    control: Control,
    values: Sequence[str],
    numbers: Sequence[tuple[float, ...]],
    statistic: Statistic,
    data: Source,
) -> tuple[RealStatistic, str]:
    """Measure training views of the data whose own setting is near each value; and the hash of all of them."""
    length = min(len(data), metric.real_pictures)
    ranges = [range(start, min(start + _AT_ONCE, length)) for start in range(0, length, _AT_ONCE)]
    transform = samples.pictures.run.transform
    measured, settings, seen = [], [], PictureSet()
    for batch in read_batches(data, transform, seed=_SEED, position_ranges=ranges, workers=0):
        # Samples are neither mirrored nor turned by default, and in a mirrored view a crop on the left is one on the right.
        upright = [row for row, record in enumerate(batch.records) if not record.quarter_turns]
        plain = [row for row in upright if not batch.records[row].flip or transform.flip == 1]
        measured.append(statistic.measure(batch.pixels[plain]))
        settings.append(control.numbers_of([batch.records[row] for row in plain]).reshape(len(plain), -1))
        seen.add(batch.pixels[plain])
    scale = torch.log2 if metric.control == "size" else _unchanged  # sizes differ by factors, offsets by steps
    near = nearest_value(scale(torch.cat(settings)), scale(torch.tensor(numbers, dtype=torch.float32)))
    return real_statistic(torch.cat(measured), near, values), seen.hash


def _unchanged(numbers: Tensor) -> Tensor:
    return numbers
