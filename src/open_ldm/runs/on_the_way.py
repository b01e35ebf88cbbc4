"""What is measured of a run while it trains: how far its samples are from the data, and how near to single pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, SemanticConfig
from open_ldm.data.order import sample_at
from open_ldm.data.sample import Source
from open_ldm.evaluation.features import FeatureExtractor, build_extractor
from open_ldm.evaluation.memorised import Memorised, memorised
from open_ldm.evaluation.own_features import FIT, FOLDER, OwnFeatures, own_features
from open_ldm.evaluation.pictures import Pictures, pictures_of
from open_ldm.evaluation.statistics import Statistics, collect
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.cached_source import CachedSource
from open_ldm.runs.recipe import Recipe
from open_ldm.sampling.generate import Generator
from open_ldm.sampling.requests import SampleRequest, build_inputs
from open_ldm.sources.loader import draw_caption, open_data
from open_ldm.text import TextEncoder

_ORDER_SEED = 0
_FIRST_SEED = 2000
"""Of the first sample: other pictures than the previews."""


def shown_as_in(data: Source, semantic: SemanticConfig, seed: int) -> str | None:
    """Return the class or caption of picture `seed` of the shuffled data: conditions as often as they occur there."""
    if isinstance(semantic, NoSemantic):
        return None
    index = sample_at(_ORDER_SEED, seed, len(data))
    if isinstance(semantic, ClassSemantic):
        label = data.label_of(index)
        return None if label is None else data.class_names[label]
    return draw_caption(data.captions_of(index), _ORDER_SEED, seed, captioned=True)


def on_the_way_of(
    recipe: Recipe,
    known: Knowledge,
    source: Source,
    generator: Generator,
    text_encoder: TextEncoder | None,
    folder: RunFolder,
    interrupt: Callable[[], None],
) -> OnTheWay | None:
    """Return what measures samples on the way; None where the recipe asks for nothing, or only a cache is at hand.

    Arguments as of `OnTheWay`.
    """
    if recipe.evaluation is None or isinstance(source, CachedSource):
        return None
    return OnTheWay(recipe, known, source, generator, text_encoder, folder.path, interrupt)


@dataclass(frozen=True)
class OnTheWay:
    """Samples of the averaged weights, always from the same seeds, beside the training pictures.

    What the training pictures look like is found once, when it is first needed. Nothing of it touches the training: samples
    are functions of their seeds, and the training pictures are read apart.

    Attributes:
        recipe: With `evaluation`.
        known: What the run learned of its data.
        source: The training pictures.
        generator: Of the averaged weights.
        text_encoder: Of a model of captions.
        folder: The run folder, where own features are kept.
        interrupt: Called now and then; an error that it raises ends the look.
    """

    recipe: Recipe
    known: Knowledge
    source: Source
    generator: Generator
    text_encoder: TextEncoder | None
    folder: Path
    interrupt: Callable[[], None]

    @cached_property
    def features(self) -> OwnFeatures:
        """Fitted on the run's own data where they have classes, unless the run folder holds them."""
        device, folder = self.generator.device, self.folder / FOLDER
        return own_features(self.source, folder, device=device, config=FIT, interrupt=self.interrupt)

    @property
    def against(self) -> str:
        """What samples are compared with, in words."""
        held = self.recipe.data.holdout is not None
        return "held-out pictures" if held else "training pictures, each beside the others, since none is held out"

    def measure(self) -> Memorised:
        """Sample and compare.

        Raises:
            DataError: The pictures cannot be compared.
            NonFiniteError: The weights are broken.
            OpenLdmError: What `interrupt` raises. Features that were being fitted are kept as far as they are.
        """
        self.interrupt()
        (samples,) = collect(self._sampled(), [self._extractor])
        return memorised(samples, self._training, self._held_out)

    @property
    def looked_at(self) -> int:
        """Among how many training pictures the nearest is looked for."""
        return self._training.pictures.count

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return build_extractor(self.features.config, self.generator.device)

    @cached_property
    def _training(self) -> Statistics:
        return self._read(self.source, self._settings.training_pictures)

    @cached_property
    def _held_out(self) -> Statistics | None:
        data = self.recipe.data
        return None if data.holdout is None else self._read(open_data(data, "held_out"), self._settings.pictures)

    @property
    def _settings(self) -> Any:
        return self.recipe.evaluation

    def _read(self, source: Source, count: int) -> Statistics:
        view = self.known.facts.view
        read = pictures_of(source, (view.height_px, view.width_px), count=min(count, len(source)))
        return collect(self._unless_interrupted(read), [self._extractor], capacity=count)[0]

    def _unless_interrupted(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        for batch in batches:
            self.interrupt()
            yield batch

    @torch.no_grad()
    def _sampled(self) -> Iterator[Pictures]:
        settings, conditioning = self.recipe.sampling, self.recipe.conditioning
        count, size = self._settings.pictures, settings.batch_size
        for start in range(0, count, size):
            numbers = range(start, min(start + size, count))
            asked = [
                SampleRequest(_FIRST_SEED + number, shown_as_in(self.source, conditioning.semantic, number))
                for number in numbers
            ]
            inputs = build_inputs(asked, conditioning, self.known.facts, self.text_encoder)
            seeds = [one.seed for one in asked]
            images = self.generator.images(inputs, seeds, settings, on_step=lambda _: self.interrupt())
            yield Pictures(images.float().cpu(), tuple(numbers))
