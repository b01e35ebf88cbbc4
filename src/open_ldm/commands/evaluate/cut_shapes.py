"""Share of a run's samples in which a shape touches the border, and the same of real views: uncropped ones, and all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import CutShapesMetric
from open_ldm.commands.evaluate.controlled import OnSeeds, reader_for, together
from open_ldm.commands.evaluate.pictures import SampledPictures
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_pixels
from open_ldm.data.sample import Source, TransformRecord
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_share
from open_ldm.evaluation.metrics.cut_shapes import at_border
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.protocol import NOTHING, Result, build_protocol, seeds_in_words
from open_ldm.evaluation.readers import ShapesReader
from open_ldm.sources.loader import read_batches

_SEED = 0
_AT_ONCE = 64
_LEAST = 20
"""Uncropped pictures below which no floor is told."""


def measure_cut_shapes(
    pictures: SampledPictures,
    metric: CutShapesMetric,
    data: Source,
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: OnSeeds = lambda done: None,
) -> list[Result]:
    """Measure how many samples show a shape that touches the border, and how many show whole shapes alone.

    Args:
        pictures: Of the run, whose data are drawn shapes.
        metric: The numbers of pictures.
        data: Real pictures; their views are cut as in the run's training.
        bootstrap: Gives the level of the intervals, which are over pictures.
        world: The processes that share the seeds.
        on_seeds: Called with the number of seeds done by this process.

    Returns:
        The shares `cut_shapes` and `whole_shapes` of the samples, then `cut_shapes_views` of real training views and
        `cut_shapes_floor` of those views that show their picture whole. With fewer than 20 of these there is no floor.

    Raises:
        ConfigError: The run's data are no drawn shapes.
    """
    world = world or World()
    if not isinstance(reader_for(pictures, None, ()), ShapesReader):
        kind = pictures.run.recipe.data.source.kind
        raise ConfigError(f"cut_shapes reads drawn shapes alone, and the run's data are {kind}", needed="a run on shapes")
    seeds = pictures.seeds[: metric.pictures]
    rows, done = [torch.zeros(0, 2, dtype=torch.float64)], list[int]()
    for chosen in pictures.portions(seeds, world):
        found = at_border(to_pixels(pictures.images([pictures.request(seed) for seed in chosen])))
        rows.append(torch.stack([found.cut, found.whole], dim=1))
        done += chosen
        on_seeds(len(done))
    table = together(world, done, torch.cat(rows))
    real = _real(pictures, data, metric.real_pictures)
    few = int(real.uncropped.sum()) < _LEAST
    warnings = (f"no floor: {int(real.uncropped.sum())} of {len(real.cut)} real views show a whole picture",) if few else ()
    names = ("cut_shapes", "whole_shapes")
    of_samples = [
        replace(estimate_share(name, table[:, column], bootstrap), warnings=warnings) for column, name in enumerate(names)
    ]
    of_views = [estimate_share("cut_shapes_views", real.cut, bootstrap)]
    if not few:
        of_views.append(estimate_share("cut_shapes_floor", real.cut[real.uncropped], bootstrap))
    sampling = {**pictures.sampling, "seeds": seeds_in_words(seeds)}
    return [
        *(_result(one, pictures, bootstrap, sampling) for one in of_samples),
        *(_result(one, pictures, bootstrap, None, real.hash) for one in of_views),
    ]


def _result(
    one: Estimate,
    pictures: SampledPictures,
    bootstrap: BootstrapConfig,
    sampling: Mapping[str, str] | None,
    real: str = NOTHING,
) -> Result:
    """`real`: the hash of the views that were read."""
    n = str(one.count)
    of = NOTHING if real == NOTHING else n
    return Result(
        one,
        build_protocol(
            one.name, ShapesReader.id, pictures.size_px, n, bootstrap, reference=real, reference_n=of, sampling=sampling
        ),
    )


@dataclass(frozen=True)
class _RealViews:
    """`cut`: float64 [n]; `uncropped`: whether a view shows its whole picture, bool [n]; `hash`: of all views."""

    cut: Tensor
    uncropped: Tensor
    hash: str


def _real(pictures: SampledPictures, data: Source, count: int) -> _RealViews:
    length = min(len(data), count)
    ranges = [range(start, min(start + _AT_ONCE, length)) for start in range(0, length, _AT_ONCE)]
    cut, uncropped, seen = list[Tensor](), list[bool](), PictureSet()
    for batch in read_batches(data, pictures.run.transform, seed=_SEED, position_ranges=ranges, workers=0):
        cut.append(at_border(batch.pixels).cut)
        uncropped += [_shows_all(record) for record in batch.records]
        seen.add(batch.pixels)
    return _RealViews(torch.cat(cut), torch.tensor(uncropped), seen.hash)


def _shows_all(record: TransformRecord) -> bool:
    return (record.scaled_height_px, record.scaled_width_px) == (record.height_px, record.width_px)
