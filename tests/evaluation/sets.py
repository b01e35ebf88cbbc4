"""Sets of pictures and of feature vectors for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from open_ldm.core.pictures import to_images
from open_ldm.data.sample import Sample, SourceSummary
from open_ldm.evaluation.bank import Rows
from open_ldm.evaluation.features import FeatureExtractor, RandomConfig, build_extractor
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.moments import Moments
from open_ldm.evaluation.pictures import Pictures, PictureSet
from open_ldm.evaluation.statistics import Statistics
from tests.helpers import randn

CPU = torch.device("cpu")
PLAIN = ExtractorId("plain vectors", "0" * 64, "none")


def images(count: int, size_px: int = 16, seed: int = 0) -> Tensor:
    """Smooth coloured pictures [count, 3, size_px, size_px], exactly representable in 8 bits."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear")
    return to_images((fine * 255).round().to(torch.uint8))


def batches(pictures: Tensor, size: int, order: Sequence[int] | None = None) -> Iterator[Pictures]:
    """The pictures in batches, numbered by their place, in the given order."""
    places = list(range(len(pictures))) if order is None else list(order)
    for start in range(0, len(places), size):
        chosen = places[start : start + size]
        yield Pictures(pictures[chosen], tuple(chosen))


def small_extractor(seed: int = 0, dim: int = 6) -> FeatureExtractor:
    """An untrained network that takes a millisecond."""
    network = SmallNetworkConfig(size_px=16, width=8, dim=dim)
    return build_extractor(RandomConfig(seed=seed, network=network), CPU)


def statistics_of(vectors: Tensor, **columns: Any) -> Statistics:
    """Statistics of vectors [n, D] that no picture gave."""
    moments = Moments.empty(vectors.shape[1])
    moments.add(vectors)
    numbers = torch.arange(len(vectors))
    rows = Rows(keys=numbers, numbers=numbers, vectors=vectors.float(), **columns)
    return Statistics(PLAIN, PictureSet(len(vectors), (8, 8), int(vectors.double().abs().sum() * 1e6)), moments, rows)


def normal_statistics(count: int, dim: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Statistics:
    """Statistics of normal vectors."""
    return statistics_of(randn(count, dim, seed=seed) * scale + shift)


class Patterns:
    """A labelled source in memory: noisy stripes across, stripes down or a chessboard, of any colour and phase."""

    class_names = ("across", "down", "chessboard")
    fingerprint = "patterns"

    def __init__(self, length: int, size_px: int = 16) -> None:
        self.length, self.size_px = length, size_px
        self.summary = SourceSummary(length, len(self.class_names), 0, "in memory")

    def __len__(self) -> int:
        return self.length

    def digests(self, indices: Sequence[int], on_pictures: Any) -> list[bytes]:
        return [f"{index:016}".encode() for index in indices]

    def __getitem__(self, index: int) -> Sample:
        draws = np.random.default_rng(index)
        y, x = (np.indices((self.size_px, self.size_px)) + draws.integers(8)) // 4
        mask = np.stack([y, x, x + y])[self.label_of(index)] % 2
        colours = np.stack([draws.uniform(0, 90, 3), draws.uniform(165, 255, 3)])
        pixels = colours[mask] + draws.normal(0, 10, (self.size_px, self.size_px, 3))
        size = self.size_px
        return Sample(self.sample_id(index), pixels.clip(0, 255).astype(np.uint8), size, size, self.label_of(index))

    def sample_id(self, index: int) -> str:
        return f"patterns/{index}"

    def label_of(self, index: int) -> int:
        return index % len(self.class_names)


class Process:
    """Stands in for a World whose other processes have spoken already: `gathered` adds this one's value to theirs."""

    def __init__(self, before: Sequence[Any] = ()) -> None:
        self.values = list(before)

    def gathered(self, value: Any, name: str = "") -> list[Any]:
        """What the processes before said, and this one's."""
        self.values.append(value)
        return list(self.values)
