"""The same seeds and semantic conditions under several values of one control: what metrics of controls measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from open_ldm.commands.evaluate.pictures import SampledPictures
from open_ldm.controls import Control, Metadata
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.pictures import to_pixels
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.features.classifier import ClassifierConfig, ClassifierExtractor
from open_ldm.evaluation.protocol import Result
from open_ldm.evaluation.readers import (
    ClassifierReader,
    ClassifierReaderConfig,
    Reader,
    ReaderConfig,
    ShapesReader,
    ShapesReaderConfig,
)
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shrunk import ShrunkConfig

SIDES = (0.25, 0.5, 1, 2, 4)
"""Default sizes, as multiples of the pictures' sides."""
_MOST_BYTES = 1 << 28

OnSeeds = Callable[[int], None]


@dataclass(frozen=True)
class Controlled:
    """Pixels uint8 [B, C, H, W] of the same B seeds under each value."""

    pixels: dict[str, Tensor]
    seeds: tuple[int, ...]


@dataclass
class ControlledSamples:
    """Samples pictures under values of a control; what several metrics ask for is sampled once, up to 256 MB of it."""

    pictures: SampledPictures
    _kept: dict[tuple[str, str, tuple[int, ...]], Tensor] = field(default_factory=dict)

    def batches(
        self, control: str, values: Sequence[str], seeds: range, world: World, on_seeds: OnSeeds = lambda done: None
    ) -> Iterator[Controlled]:
        """Yield this process's share of the seeds; `on_seeds` is called with the number of seeds done."""
        done = 0
        for chosen in self.pictures.portions(seeds, world):
            yield Controlled({value: self._pixels(control, value, chosen) for value in values}, tuple(chosen))
            done += len(chosen)
            on_seeds(done)

    def _pixels(self, control: str, value: str, seeds: range) -> Tensor:
        name = (control, value, tuple(seeds))
        if name in self._kept:
            return self._kept[name]
        requests = [self.pictures.request(seed, **{control: value}) for seed in seeds]
        pixels = to_pixels(self.pictures.images(requests)).cpu()
        if sum(each.numel() for each in self._kept.values()) + pixels.numel() <= _MOST_BYTES:
            self._kept[name] = pixels
        return pixels


@dataclass(frozen=True)
class Effect:
    """The effect of a control with its protocol, and `details`: the statistic of samples and of real pictures at each value."""

    result: Result
    details: Mapping[str, Any]

    @property
    def results(self) -> tuple[Result, ...]:
        """The one result."""
        return (self.result,)


def warned_of(estimate: Estimate, control: str, left_out: Sequence[str]) -> Estimate:
    """Return the estimate with a warning that names the values near which there are too few real pictures, if any are."""
    if not left_out:
        return estimate
    values = ", ".join(left_out)
    warning = f"control_effect leaves out {control}={values}, near which there are too few real pictures"
    return replace(estimate, warnings=(warning,))


def control_of(pictures: SampledPictures, option: str, metric: str) -> Control:
    """Return the run's control of that option. Raises ConfigError when the run was trained without it."""
    controls = {control.asked_as: control for control in pictures.run.recipe.conditioning.controls}
    if option not in controls:
        known = nearest(option, controls) if controls else "a run trained with controls"
        raise ConfigError(f"{metric}: the run has no control {option!r}", needed=known)
    return controls[option]


def meaning_of(control: Control) -> str:
    """Return what a control means to metrics that know some by their options; '' for a column, whatever it is called."""
    return "" if isinstance(control, Metadata) else control.asked_as


def values_of(pictures: SampledPictures, option: str, values: Sequence[str] | None, metric: str) -> tuple[str, ...]:
    """Return the values to compare: those given, or the usual ones of size, flip and a column of metadata.

    Raises ConfigError for other controls.
    """
    if values is not None:
        return tuple(values)
    control = control_of(pictures, option, metric)
    if isinstance(control, Metadata):
        return control.examples(pictures.run.known.facts.view)
    if option == "size":
        return default_sizes(pictures.size_px)
    if option == "flip":
        return ("0", "1")
    raise ConfigError(f"{metric}: no values were given for {option}", fix=f"metrics.{metric}.values=[..., ...]")


def default_sizes(size_px: tuple[int, int]) -> tuple[str, ...]:
    """Return squares (or what has the pictures' shape) of 1/4, 1/2, 1, 2 and 4 times their sides."""
    height, width = size_px
    return tuple(f"{max(1, round(side * height))}x{max(1, round(side * width))}" for side in SIDES)


def reader_for(pictures: SampledPictures, config: ReaderConfig | None, extractors: Sequence[FeatureExtractor]) -> Reader | None:
    """Return the reader of a config, or the one that suits the run's data; None where there is none.

    Raises ConfigError when the folder of a classifier holds none.
    """
    match config:
        case ShapesReaderConfig():
            return ShapesReader()
        case ClassifierReaderConfig():
            return ClassifierReader(ClassifierExtractor(ClassifierConfig(path=config.path), pictures.run.machine.device))
    source = pictures.run.recipe.data.source
    if isinstance(source.of if isinstance(source, ShrunkConfig) else source, ShapesConfig):
        return ShapesReader()
    fitted = next((one for one in extractors if isinstance(one, ClassifierExtractor)), None)
    return None if fitted is None else ClassifierReader(fitted)


def together(world: World, seeds: Sequence[int], rows: Tensor) -> Tensor:
    """Gather the rows [n, ...] of all processes in the order of their seeds."""
    parts = world.gathered((list(seeds), rows), "controlled pictures")
    order = torch.tensor([seed for own, _ in parts for seed in own]).argsort()
    return torch.cat([part for own, part in parts if own])[order]
