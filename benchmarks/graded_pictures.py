"""Sets of photographs of known, finely graded quality, as features of the project's own fitted extractor.

The photographs fall in three parts that share none: one that the extractor is fitted on, one that is the reference, and one
that every set is made of. The strengths (GRADES) were chosen by the Fréchet distance alone: the fine ones so
near to each other that few pictures confuse neighbours, and far enough that thousands tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from open_ldm.core import seeds
from open_ldm.core.pictures import to_images
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.data.sample import Source
from open_ldm.evaluation.features.base import FeatureExtractor
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.own_features import own_features

FITTED_ON = 0.3
"""Share of the training pictures that the extractor is fitted on."""
SHRUNK_PX = 16
GRADES = {
    "fine": {"noise": (15.0, 17.0, 19.0), "shrunk": (0.2, 0.3, 0.4), "classes": (0.3, 0.4, 0.5)},
    "coarse": {"noise": (20.0, 24.0, 28.0), "shrunk": (0.4, 0.7, 1.0), "classes": (0.5, 0.75, 1.0)},
}
"""Noise: standard deviation in 255ths. Shrunk: share of the pictures shrunk to 16 px and enlarged again. Classes: share of the
pictures of the first half of the classes in whose place others of the second half stand."""
PLAIN = "photographs"
"""The set of strength 0, in every family."""
_BATCH = 250


@dataclass(frozen=True)
class Graded:
    """A set of pictures: `vectors` float32 [P, D], its `family` and its `strength` in it."""

    family: str
    strength: float
    vectors: Tensor

    @property
    def name(self) -> str:
        """For people and for files."""
        return f"{self.family} {self.strength:g}" if self.strength else self.family


@dataclass(frozen=True)
class Photographs:
    """uint8 [P, 3, S, S], and the class of each, int64 [P]."""

    pixels: Tensor
    labels: Tensor

    def take(self, indices: Tensor) -> Photographs:
        """Those at `indices`."""
        return Photographs(self.pixels[indices], self.labels[indices])


def photographs_of(source: Source) -> Photographs:
    """Read all pictures of a source, which are of one size and labelled."""
    samples = [source[index] for index in range(len(source))]
    pixels = torch.stack([torch.from_numpy(sample.pixels).movedim(2, 0) for sample in samples])
    return Photographs(pixels, torch.tensor([sample.label for sample in samples]))


def parts_of(train: Source, test: Source, limit: int | None) -> tuple[Source, Photographs, Photographs]:
    """Divide the data into what the extractor is fitted on, the reference and the pictures of the sets.

    The last two are halves of all others, at most `limit` pictures each.
    """
    holdout = HoldoutConfig(share=1 - FITTED_ON, seed=1)
    others, more = photographs_of(select_part(train, holdout, "held_out")), photographs_of(test)
    together = Photographs(torch.cat([others.pixels, more.pixels]), torch.cat([others.labels, more.labels]))
    order = torch.randperm(len(together.labels), generator=seeds.generator(0, "graded halves"))
    half = min(len(order) // 2, limit or len(order))
    return select_part(train, holdout, "train"), together.take(order[:half]), together.take(order[half : 2 * half])


def extractor_of(fitted_on: Source, folder: Path) -> FeatureExtractor:
    """Take the extractor that a run of these pictures would have in RUN/features; fit it where `folder` has none."""
    return own_features(fitted_on, folder).config.build(torch.device("cpu"))


def features_of(extractor: FeatureExtractor, pixels: Tensor, change: Callable[[Tensor, int], Tensor] | None = None) -> Tensor:
    """Features [P, D] of pictures, each batch changed by `change`(images, number of the batch)."""
    found = []
    for number, batch in enumerate(pixels.split(_BATCH)):
        images = to_images(batch)
        found.append(extractor.extract(images if change is None else change(images, number)).vectors)
    return torch.cat(found)


def noisy(images: Tensor, deviation: float, batch: int) -> Tensor:
    """Images in [-1, 1] with normal noise, its deviation in 255ths of their range; of the same seed for every deviation."""
    noise = torch.randn(images.shape, generator=seeds.generator(0, "graded noise", batch))
    return images + noise * (deviation * 2 / 255)


def exchanged(labels: Tensor, share: float) -> Tensor:
    """Indices [P] of a set in which a share of the pictures of the lower half of the classes gave way to others.

    What stands in their place is drawn from the other classes, with replacement. Those of a lower share are among those of a
    higher one.
    """
    low = labels < (int(labels.max()) + 1) // 2
    generator = seeds.generator(0, "graded classes")
    leaving = low.nonzero().flatten()
    leaving = leaving[torch.randperm(len(leaving), generator=generator)]
    staying = (~low).nonzero().flatten()
    coming = staying[torch.randint(len(staying), (len(leaving),), generator=generator)]
    count = round(share * len(leaving))
    indices = torch.arange(len(labels))
    indices[leaving[:count]] = coming[:count]
    return indices


def graded_sets(extractor: FeatureExtractor, photographs: Photographs, families: Mapping[str, Sequence[float]]) -> list[Graded]:
    """Make all sets; the plain photographs first. A picture's features do not depend on others, so mixtures mix features."""
    pixels, labels = photographs.pixels, photographs.labels
    plain = features_of(extractor, pixels)
    coarse = features_of(extractor, pixels, lambda images, _: coarsened(images, (SHRUNK_PX, SHRUNK_PX)))
    order = torch.rand(len(plain), generator=seeds.generator(0, "graded mixture")).unsqueeze(1)
    made: dict[str, Callable[[float], Tensor]] = {
        "noise": lambda strength: features_of(extractor, pixels, lambda images, batch: noisy(images, strength, batch)),
        "shrunk": lambda strength: torch.where(order < strength, coarse, plain),
        "classes": lambda strength: plain[exchanged(labels, strength)],
    }
    sets = [Graded(PLAIN, 0.0, plain)]
    for family, strengths in families.items():
        sets += [Graded(family, strength, made[family](strength)) for strength in strengths]
    return sets


def known_pairs(sets: Sequence[Graded]) -> list[tuple[int, int]]:
    """Pairs (better, worse) whose order is known: of one family, or of the plain photographs and any other."""
    return [
        (one, other)
        for one, better in enumerate(sets)
        for other, worse in enumerate(sets)
        if better.strength < worse.strength and better.family in (worse.family, PLAIN)
    ]
