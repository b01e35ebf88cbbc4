"""Coarse change of a run, and the floor beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import CoarseChangeMetric
from open_ldm.commands.evaluate.content import Change, floor_pictures, floor_protocol
from open_ldm.commands.evaluate.controlled import ControlledSamples, OnSeeds, control_of, meaning_of, together, values_of
from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics.coarse_change import CoarseChange, coarse, coarse_change, compared_detail, require_comparable
from open_ldm.evaluation.metrics.content_change import changed_as_real
from open_ldm.evaluation.protocol import Result, build_protocol, seeds_in_words

_PIXELS = ExtractorId("pixels", "none", "none")
_AT_ONCE = 32


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
    meaning = meaning_of(control)
    require_comparable(meaning)
    values = values_of(pictures, metric.control, metric.values, metric.kind)
    view = pictures.run.known.facts.view
    kept_px = compared_detail(meaning, [control.read(value, view) for value in values], pictures.size_px)
    seeds = pictures.seeds[: metric.pictures]
    rows, done = list[Tensor](), list[int]()
    for batch in samples.batches(metric.control, values, seeds, world, on_seeds):
        rows.append(torch.stack([coarse(meaning, value, batch.pixels[value], kept_px) for value in values], dim=1))
        done += batch.seeds
    table = together(world, done, torch.cat(rows) if rows else torch.zeros(0))
    found = coarse_change({value: table[:, column] for column, value in enumerate(values)})
    words = f"{metric.control}={'|'.join(values)}, detail of {kept_px[0]}x{kept_px[1]} px"
    protocol = build_protocol(
        f"coarse_change({words})", _PIXELS, pictures.size_px, str(len(table)), bootstrap,
        sampling={**pictures.sampling, "seeds": seeds_in_words(seeds)},
    )  # fmt: skip
    details: dict[str, Any] = {"detail_px": list(kept_px), "pairs": dict(found.pairs)}
    real, without = floor_pictures(pictures, meaning, metric.real_pictures)
    floor: CoarseChange | None = None
    if real is not None:
        try:
            floor = coarse_change(_of_real(real, meaning, values, kept_px))
        except DataError as error:
            without = (f"no floor: {error.one_line()}",)
    change = found.estimate("coarse_change", bootstrap)
    results = [Result(replace(change, warnings=(*change.warnings, *without)), protocol)]
    if real is not None and floor is not None:
        protocol = floor_protocol(f"coarse_change_floor({words})", _PIXELS, pictures, real, bootstrap)
        results.append(Result(floor.estimate("coarse_change_floor", bootstrap), protocol))
        details["floor"] = dict(floor.pairs)
    return Change(tuple(results), {metric.control: details})


def _of_real(real: Tensor, control: str, values: Sequence[str], kept_px: tuple[int, int]) -> dict[str, Tensor]:
    """Coarse real pictures under each value, a few at a time."""
    parts: dict[str, list[Tensor]] = {value: [] for value in values}
    for start in range(0, len(real), _AT_ONCE):
        for value, pixels in (changed_as_real(control, real[start : start + _AT_ONCE], values) or {}).items():
            parts[value].append(coarse(control, value, pixels, kept_px))
    return {value: torch.cat(each) for value, each in parts.items()}
