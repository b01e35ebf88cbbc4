"""Control effect of a column of metadata: what a fitted reader reads off samples under several values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import ControlEffectMetric
from open_ldm.commands.evaluate.controlled import ControlledSamples, Effect, OnSeeds, together, warned_of
from open_ldm.controls import Metadata
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_mean
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.features.classifier import ClassifierConfig, ClassifierExtractor
from open_ldm.evaluation.metrics.control_effect import nearest_value
from open_ldm.evaluation.metrics.read_effect import RealReadings, read_effects, real_readings
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.protocol import Result, build_protocol, seeds_in_words
from open_ldm.evaluation.readers import ClassifierReaderConfig
from open_ldm.evaluation.readers.column import ColumnReader
from open_ldm.sources.loader import read_batches

_SEED = 0
_AT_ONCE = 64


def measure_read_effect(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    control: Metadata,
    values: Sequence[str],
    data: Source,
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    world: World,
    on_seeds: OnSeeds,
) -> Effect:
    """Measure how much of what a column changes in real pictures it changes in samples; as `measure_control_effect`.

    Raises:
        ConfigError: No classifier was given that was fitted on this column.
        DataError: The reader does not tell real pictures of the values apart.
    """
    pictures, seeds = samples.pictures, samples.pictures.seeds[: metric.pictures]
    reader = _reader(samples, metric, control, extractors)
    real, hash_of_real = _real(samples, metric, control, values, reader, data)
    rows, done = list[Tensor](), list[int]()
    for batch in samples.batches(metric.control, values, seeds, world, on_seeds):
        rows.append(torch.stack([reader.read(batch.pixels[value]) for value in values], dim=1))
        done += batch.seeds
    width = len(next(iter(real.means.values())))
    table = together(world, done, torch.cat([torch.zeros(0, len(values), width, dtype=torch.float64), *rows]))
    found = {value: table[:, column] for column, value in enumerate(values)}
    protocol = build_protocol(
        f"control_effect({metric.control}={'|'.join(real.means)}, column {control.column} as read)",
        reader.id, pictures.size_px, str(len(table)), bootstrap,
        reference=hash_of_real, reference_n="|".join(str(count) for count in real.counts.values()),
        sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    effects = estimate_mean("control_effect", read_effects(found, real.means), bootstrap)
    estimate = warned_of(effects, metric.control, real.left_out)
    details = {
        "statistic": f"column {control.column} as read",
        "samples": {value: reader.shown(each.mean(dim=0), value) for value, each in found.items()},
        "real": {value: reader.shown(mean, value) for value, mean in real.means.items()},
        "real_pictures": dict(real.counts),
    }
    return Effect(Result(estimate, protocol), {metric.control: details})


def _reader(
    samples: ControlledSamples, metric: ControlEffectMetric, control: Metadata, extractors: Sequence[FeatureExtractor]
) -> ColumnReader:
    """Return the reader that the metric names, or that an extractor is. Raises ConfigError where none reads the column."""
    given = [one for one in extractors if isinstance(one, ClassifierExtractor)]
    if isinstance(metric.reader, ClassifierReaderConfig):
        given = [ClassifierExtractor(ClassifierConfig(path=metric.reader.path), samples.pictures.run.machine.device)]
    fitted = next((one for one in given if one.column == control.column), None)
    if fitted is None:
        others = f"; given: one of {given[0].column}" if given else ""
        raise ConfigError(
            f"control_effect of {metric.control} needs a reader that was fitted on column {control.column!r}{others}",
            needed="a classifier as --extractor, or metrics.control_effect.reader={kind: classifier, path: FOLDER}",
            fix=f"ldm evaluate fit-features DATA column={control.column} --out FOLDER",
        )
    wants_words = control.fitted(samples.pictures.run.known.facts.view).categories is not None
    return ColumnReader(fitted, None if wants_words else control)


def _real(
    samples: ControlledSamples,
    metric: ControlEffectMetric,
    control: Metadata,
    values: Sequence[str],
    reader: ColumnReader,
    data: Source,
) -> tuple[RealReadings, str]:
    """Read views of real pictures whose own value is near each of the values; and the hash of all of them."""
    view = samples.pictures.run.known.facts.view
    fitted = control.fitted(view)
    length = min(len(data), metric.real_pictures)
    ranges = [range(start, min(start + _AT_ONCE, length)) for start in range(0, length, _AT_ONCE)]
    transform = samples.pictures.run.transform
    read, own, seen = [], [], PictureSet()
    columns = control.columns_read
    for batch in read_batches(data, transform, seed=_SEED, position_ranges=ranges, workers=0, columns=columns):
        read.append(reader.read(batch.pixels))
        own.append(fitted.numbers_of(batch.records))
        seen.add(batch.pixels)
    settings = torch.cat(own)
    numbers = torch.tensor([control.read(value, view) for value in values], dtype=torch.float32)
    if fitted.categories is None:
        nearest = nearest_value(settings, numbers)
    else:
        same = settings == numbers.T  # [n, V]
        nearest = torch.where(same.any(dim=1), same.int().argmax(dim=1), -1)
    return real_readings(torch.cat(read), nearest, values), seen.hash
