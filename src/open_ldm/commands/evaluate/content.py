"""Content change of a run, and the floor beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import ContentChangeMetric
from open_ldm.commands.evaluate.controlled import ControlledSamples, OnSeeds, control_of, meaning_of, reader_for, values_of
from open_ldm.commands.evaluate.pictures import SampledPictures, picture_of
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.data.holdout import select_part
from open_ldm.data.order import sample_at
from open_ldm.data.sample import BadPicture, Source
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_share
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics.content_change import compared_attributes, content_change, has_floor, read_changes
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.protocol import MeasurementProtocol, Result, build_protocol, seeds_in_words
from open_ldm.evaluation.readers import Reader, Reading
from open_ldm.sources.loader import DataConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shrunk import ShrunkSource

_ORDER_SEED = 0
_MOST_LOOKED_AT = 50_000
_LEAST = 20


@dataclass(frozen=True)
class Change:
    """The share and its floor with their protocols, and `details`: shares by attribute and by pair of values, of both."""

    results: tuple[Result, ...]
    details: Mapping[str, Any]


def measure_content_change(
    samples: ControlledSamples,
    metric: ContentChangeMetric,
    extractors: Sequence[FeatureExtractor],
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: OnSeeds = lambda done: None,
) -> Change:
    """Measure how often the content of samples of one seed changes with a control.

    Args:
        samples: Of the run.
        metric: The control, its values, the reader and the numbers of pictures.
        extractors: A classifier among them is the reader where the metric names none.
        bootstrap: Settings of the intervals.
        world: The processes that share the seeds.
        on_seeds: Called with the number of seeds done by this process.

    Raises:
        ConfigError: The run was not trained with the control, or there is no reader.
    """
    world, pictures = world or World(), samples.pictures
    control = meaning_of(control_of(pictures, metric.control, metric.kind))
    values = values_of(pictures, metric.control, metric.values, metric.kind)
    reader = reader_for(pictures, metric.reader, extractors)
    if reader is None:
        raise ConfigError(
            "content_change: nothing was given that reads what pictures show",
            needed="a classifier as --extractor, or metrics.content_change.reader={kind: classifier, path: FOLDER}",
            fix="ldm evaluate fit-features DATA shrunk_to_px=8 --out FOLDER",
        )
    attributes = compared_attributes(control, reader, metric.attributes)
    seeds = pictures.seeds[: metric.pictures]
    readings = _readings(samples, reader, metric.control, values, seeds, world, on_seeds)
    found = content_change(control, readings, attributes)
    words = f"{metric.control}={'|'.join(values)}, attributes={'|'.join(attributes)}"
    protocol = build_protocol(
        f"content_change({words})", reader.id, pictures.size_px, str(len(found.changed)), bootstrap,
        sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    details: dict[str, Any] = {
        "reader": reader.id.name, "attributes": dict(found.attributes), "pairs": dict(found.pairs)
    }  # fmt: skip
    real, without = floor_pictures(pictures, control, metric.real_pictures)
    share = estimate_share("content_change", found.changed, bootstrap)
    results = [Result(replace(share, warnings=without), protocol)]
    if real is not None and (floor := read_changes(real, reader, control, values, attributes)) is not None:
        protocol = floor_protocol(f"content_change_floor({words})", reader.id, pictures, real, bootstrap)
        results.append(Result(estimate_share("content_change_floor", floor.changed, bootstrap), protocol))
        details["floor"] = {"attributes": dict(floor.attributes), "pairs": dict(floor.pairs)}
    return Change(tuple(results), {metric.control: details})


def floor_pictures(pictures: SampledPictures, control: str, count: int) -> tuple[Tensor | None, tuple[str, ...]]:
    """Read real pictures for the floor of a control; what was measured of samples stands also where there are none.

    Args:
        pictures: Of the run, whose data they are of.
        control: What it means, by `meaning_of`.
        count: How many at most.

    Returns:
        uint8 [n, C, H, W], or None where the control has no floor, or the data cannot be read: then also a warning.
    """
    if not has_floor(control):
        return None, ()
    try:
        return real_pictures(real_source(pictures.run.recipe.data), pictures.size_px, count), ()
    except OpenLdmError as error:
        return None, (f"no floor: {error.one_line()}",)


def floor_protocol(
    name: str, reader: ExtractorId, pictures: SampledPictures, real: Tensor, bootstrap: BootstrapConfig
) -> MeasurementProtocol:
    """Return the protocol of a floor measured on these real pictures."""
    of = PictureSet()
    of.add(real)
    count = str(len(real))
    return build_protocol(name, reader, pictures.size_px, count, bootstrap, reference=of.hash, reference_n=count)


def real_pictures(source: Source, size_px: tuple[int, int], count: int) -> Tensor:
    """Read `count` pictures that were never smaller than `size_px`, as they are measured: uint8 [n, C, H, W], in 8 bits.

    Where fewer than 20 are that large, the largest are read, whose detail may be gone already.
    """
    found: list[tuple[float, int]] = []
    large = 0
    for position in range(min(len(source), _MOST_LOOKED_AT)):
        index = sample_at(_ORDER_SEED, position, len(source))
        try:
            size = source.size_of(index)
        except BadPicture:
            continue
        found.append((min(1.0, size[0] / size_px[0], size[1] / size_px[1]), index))
        large += found[-1][0] == 1
        if large == count:
            break
    if large >= min(_LEAST, count):
        found = [one for one in found if one[0] == 1]
    chosen = sorted(found, key=lambda one: -one[0])[:count]  # stable: of equal ones the first in the shuffled order
    if not chosen:
        raise DataError("content_change: no real picture can be read for the floor", needed="at least one")
    return torch.stack([to_pixels(to_images(picture_of(source, index, size_px))) for _, index in chosen])


def real_source(data: DataConfig) -> Source:
    """Open the part of the data that training never saw, or all of it, before it was made small.

    Of `shrunk` data the pictures as they were; drawings larger, with nothing depending on what they show. Otherwise the
    largest pictures would be of one kind where the size depends on the content, and the floor that of this kind alone.
    """
    config = data.source
    if isinstance(config, ShapesConfig):
        plain = {"short_side_px": ShapesConfig.model_fields["short_side_px"].default, "entangle": None}
        source: Source = config.model_copy(update=plain).open()
    else:
        source = config.open()
    if isinstance(source, ShrunkSource):
        source = source.inner
    return source if data.holdout is None else select_part(source, data.holdout, "held_out")


def _readings(
    samples: ControlledSamples,
    reader: Reader,
    control: str,
    values: Sequence[str],
    seeds: range,
    world: World,
    on_seeds: OnSeeds,
) -> dict[str, list[Reading]]:
    """What all pictures show under each value, in the order of their seeds."""
    rows: list[tuple[int, list[Reading]]] = []
    for batch in samples.batches(control, values, seeds, world, on_seeds):
        read = [reader.read(batch.pixels[value]) for value in values]
        rows += [(seed, list(each)) for seed, *each in zip(batch.seeds, *read, strict=True)]
    whole = sorted((row for part in world.gathered(rows, "readings") for row in part), key=lambda row: row[0])
    return {value: [each[column] for _, each in whole] for column, value in enumerate(values)}
