"""Coarse change of a run, and the floor beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import CoarseChangeMetric
from open_ldm.commands.evaluate.content import Change, real_pictures, real_source
from open_ldm.commands.evaluate.controlled import ControlledSamples, OnSeeds, control_of, together, values_of
from open_ldm.core.distributed import World
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics.coarse_change import coarse_change, coarse_floor, compared_detail
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.protocol import Result, build_protocol, seeds_in_words

_PIXELS = ExtractorId("pixels", "none", "none")


def measure_coarse_change(
    samples: ControlledSamples,
    metric: CoarseChangeMetric,
    bootstrap: BootstrapConfig,
    *,
    world: World | None = None,
    on_seeds: OnSeeds = lambda done: None,
) -> Change:
    """Measure how much coarse samples of one seed change with a control, against samples of other seeds.

    Args:
        samples: Of the run.
        metric: The control, its values and the numbers of pictures.
        bootstrap: Settings of the intervals.
        world: The processes that share the seeds.
        on_seeds: Called with the number of seeds done by this process.

    Raises:
        ConfigError: The run was not trained with the control, or it is there to change whole pictures.
        DataError: The samples are all equal.
    """
    world, pictures = world or World(), samples.pictures
    control = control_of(pictures, metric.control, metric.kind)
    values = values_of(pictures, metric.control, metric.values, metric.kind)
    view = pictures.run.known.facts.view
    kept_px = compared_detail(metric.control, [control.read(value, view) for value in values], pictures.size_px)
    seeds = pictures.seeds[: metric.pictures]
    rows, done = list[Tensor](), list[int]()
    for batch in samples.batches(metric.control, values, seeds, world, on_seeds):
        rows.append(torch.stack([batch.pixels[value] for value in values], dim=1))
        done += batch.seeds
    table = together(world, done, torch.cat(rows) if rows else torch.zeros(0))
    found = coarse_change(metric.control, {value: table[:, column] for column, value in enumerate(values)}, kept_px)
    words = f"{metric.control}={'|'.join(values)}, detail of {kept_px[0]}x{kept_px[1]} px"
    protocol = build_protocol(
        f"coarse_change({words})", _PIXELS, pictures.size_px, str(len(table)), bootstrap,
        sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    results = [Result(found.estimate("coarse_change", bootstrap), protocol)]
    details: dict[str, Any] = {"detail_px": list(kept_px), "pairs": dict(found.pairs)}
    real = real_pictures(real_source(pictures.run.recipe.data), pictures.size_px, metric.real_pictures)
    floor = coarse_floor(metric.control, real, values, kept_px)
    if floor is not None:
        of = PictureSet()
        of.add(real)
        protocol = build_protocol(
            f"coarse_change_floor({words})", _PIXELS, pictures.size_px, str(len(real)), bootstrap,
            reference=of.hash, reference_n=str(len(real)),
        )  # fmt: skip
        results.append(Result(floor.estimate("coarse_change_floor", bootstrap), protocol))
        details["floor"] = dict(floor.pairs)
    return Change(tuple(results), {metric.control: details})
