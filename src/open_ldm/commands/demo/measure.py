"""What the demo measures: two numbers for the size, what the flip does, and whether shapes are what their captions say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from open_ldm.commands.demo.captions import UNSEEN, caption_groups, untold_captions
from open_ldm.commands.demo.versions import Version
from open_ldm.commands.sample import sample_pixels
from open_ldm.commands.sample_options import settings_from
from open_ldm.core.events import Progress
from open_ldm.data.shape_words import shapes_in
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_mean, estimate_share
from open_ldm.evaluation.metrics.content_change import content_change
from open_ldm.evaluation.metrics.control_effect import (
    Statistic,
    mirror_effects,
    nearest_value,
    real_statistic,
    slope_effects,
    statistic_of,
)
from open_ldm.evaluation.readers import ShapesReader
from open_ldm.evaluation.shape_attributes import AgreementShares, agreement, mean_agreement
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import DataConfig, open_data, read_batches
from open_ldm.sources.shapes import ShapesConfig

_CONTENT = ("colour",)
_SEED = 1000
_REAL_PICTURES = 3000
_INTERVALS = BootstrapConfig()


@dataclass(frozen=True)
class ModelFindings:
    """What was found of one model.

    Attributes:
        content_change: Share of the seeds whose colour, which no caption told, differs between any two sizes of the original.
        control_effect: How much the size changes detail, 1 as much as in real pictures.
        place: Share of the pictures, of captions that say left or right, that show it; None where the size alone is looked at.
        mirrored: Share of the pictures that flip=1 mirrors; None without that control.
        agreement: Shares of pictures that agree with their caption, by group of captions.
        pixels: The pictures themselves, uint8 [n, 3, H, W], by what they show.
    """

    content_change: Estimate
    control_effect: Estimate
    place: Estimate | None
    mirrored: Estimate | None
    agreement: Mapping[str, AgreementShares]
    pixels: Mapping[str, Tensor]

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the pictures."""
        numbers = {name: _interval(getattr(self, name)) for name in ("content_change", "control_effect", "place", "mirrored")}
        return {**numbers, "agreement": {name: asdict(shares) for name, shares in self.agreement.items()}}


def measure_model(
    run: LoadedRun, drawings: ShapesConfig, version: Version, label: str, *, silent: bool = False
) -> ModelFindings:
    """Sample from a model of the demo and measure what it samples.

    Args:
        run: Trained on drawings with a size control.
        drawings: These drawings.
        version: Says what is measured, and on how many pictures.
        label: Of the progress.
        silent: No progress is shown.
    """
    flips = any(control.asked_as == "flip" for control in run.recipe.conditioning.controls)
    untold, sizes_px = untold_captions(drawings, version.pictures), version.sizes_px
    largest = f"{sizes_px[-1]}x{sizes_px[-1]}"
    groups = {} if version.size_alone else _told_groups(drawings)
    total = version.pictures * (len(sizes_px) + flips) + sum(map(len, groups.values()))
    with Progress(total, label=label, unit="pictures", silent=silent) as progress:
        draw = _Drawing(run, progress, {"flip": "0"} if flips else {})
        by_size = {side: draw(untold, size=f"{side}x{side}") for side in sizes_px}
        whole = {name: draw(captions, size=largest) for name, captions in groups.items()}
        flipped = draw(untold, size=largest, flip="1") if flips else None
    return ModelFindings(
        content_change=_content_change(by_size),
        control_effect=_control_effect(run, drawings, by_size),
        place=None if version.size_alone else _place(by_size[sizes_px[-1]], untold),
        mirrored=None if flipped is None else _mirrored(by_size[sizes_px[-1]], flipped),
        agreement={name: _agreement(pixels, groups[name]) for name, pixels in whole.items()},
        pixels={
            **{f"size={side}": pixels for side, pixels in by_size.items()},
            **{name: pixels for name, pixels in whole.items() if name == UNSEEN},
            **({} if flipped is None else {"flip=1": flipped}),
        },
    )


def _told_groups(drawings: ShapesConfig) -> Mapping[str, Sequence[str]]:
    return {name: group for name, group in caption_groups(drawings).items() if name != "two shapes"}


class _Drawing:
    """Samples pictures of captions under controls, always from the same seeds."""

    def __init__(self, run: LoadedRun, progress: Progress, controls: Mapping[str, str]) -> None:
        self.run, self.progress, self.controls, self.done = run, progress, controls, 0

    def __call__(self, captions: Sequence[str], **controls: str) -> Tensor:
        requests = [SampleRequest(_SEED + i, caption, {**self.controls, **controls}) for i, caption in enumerate(captions)]
        settings = settings_from(self.run)
        steps = settings.steps * -(-len(requests) // settings.batch_size)
        before = self.done

        def on_steps(done: int) -> None:
            self.progress.update(before + round(len(requests) * min(1.0, done / steps)))

        pixels = sample_pixels(self.run, requests, settings, on_steps)
        self.done += len(requests)
        return pixels


def _content_change(by_size: Mapping[int, Tensor]) -> Estimate:
    reader = ShapesReader()
    readings = {str(side): reader.read(pixels) for side, pixels in by_size.items()}
    return estimate_share("content_change", content_change("size", readings, _CONTENT).changed, _INTERVALS)


def _control_effect(run: LoadedRun, drawings: ShapesConfig, by_size: Mapping[int, Tensor]) -> Estimate:
    """As `ldm evaluate` with control_effect, against drawings of each size whose colour does not depend on it.

    In the training data small originals are red and large ones blue, which also differ in contrast, and so in detail.
    """
    plain = drawings.model_copy(update={"entangle": None})
    data = run.recipe.data.model_copy(update={"source": plain})
    statistic = _detail_of(tuple(by_size), data)
    found = {str(side): statistic.measure(pixels) for side, pixels in by_size.items()}
    real = _real_means(tuple(by_size), data.model_dump_json())
    return estimate_mean("control_effect", slope_effects(found, real), _INTERVALS)


def _detail_of(sizes_px: tuple[int, ...], data: DataConfig) -> Statistic:
    view = data.transform
    return statistic_of("size", [(float(side), float(side)) for side in sizes_px], (view.height_px, view.width_px))


@lru_cache(maxsize=1)  # both models of a demo are compared with the same drawings
def _real_means(sizes_px: tuple[int, ...], written: str) -> Mapping[str, float]:
    """Mean detail of real drawings near each size; `written`: their data config as JSON."""
    data = DataConfig.model_validate_json(written)
    source, statistic = open_data(data), _detail_of(sizes_px, data)
    measured, settings = [], []
    ranges = [range(start, start + 100) for start in range(0, min(len(source), _REAL_PICTURES) // 100 * 100, 100)]
    for batch in read_batches(source, data.transform, seed=0, position_ranges=ranges, workers=0):
        measured.append(statistic.measure(batch.pixels))
        settings.append(torch.tensor([[each.original_height_px, each.original_width_px] for each in batch.records]))
    numbers = torch.tensor([(float(side), float(side)) for side in sizes_px])
    near = nearest_value(torch.log2(torch.cat(settings).float()), torch.log2(numbers))
    return real_statistic(torch.cat(measured), near, [str(side) for side in sizes_px]).means


def _place(pixels: Tensor, captions: Sequence[str]) -> Estimate:
    agreed = [agreement(one, shapes_in(caption)).place for one, caption in zip(pixels, captions, strict=True)]
    return estimate_share("place", torch.tensor(agreed), _INTERVALS)


def _mirrored(plain: Tensor, flipped: Tensor) -> Estimate:
    return estimate_share("mirrored", mirror_effects(plain, flipped, ShapesReader()), _INTERVALS)


def _agreement(pixels: Tensor, captions: Sequence[str]) -> AgreementShares:
    return mean_agreement([agreement(one, shapes_in(caption)) for one, caption in zip(pixels, captions, strict=True)])


def _interval(found: Estimate | None) -> dict[str, float] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high, "pictures": found.count}
