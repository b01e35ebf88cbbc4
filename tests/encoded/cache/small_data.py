"""A small data set with everything a cache must get right: varied sizes, bad pictures, several captions or none, labels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_ldm.autoencoders.base import Autoencoder, Posterior
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.controls import AspectRatio, Crop, Flip, OriginalSize
from open_ldm.core.seeds import key, normal
from open_ldm.data.columns import Columns, Given
from open_ldm.data.content import content_hash
from open_ldm.data.measures import Measure
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary
from open_ldm.data.transforms import LocalCrop, TransformConfig
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache, CaptionSettings
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.text.tokens import TextTokens

CPU = torch.device("cpu")
CONTROLS = (OriginalSize(), Crop(), Flip(), AspectRatio())
TRANSFORM = TransformConfig(size_px=8, crop=LocalCrop(scale_px=12), flip=0.5)
NAMES = ("ant", "bee", "cat")


class Pictures:
    """`length` pictures of noise; `bad` ones cannot be read; every fifth has no caption, the others one to three."""

    def __init__(self, length: int = 23, bad: Sequence[int] = (), words: str = "abc", labelled: bool = True) -> None:
        self.length, self.bad, self.words, self.labelled = length, set(bad), words, labelled
        self.read: list[int] = []
        self.class_names = NAMES if labelled else ()
        self.summary = SourceSummary(length, len(self.class_names), len(words) and length, "test")
        self.fingerprint = repr((length, bad, words, labelled))
        self.painted: Mapping[int, bytes] = {}
        """Content that is not what it was."""
        stain = [None if index % 6 == 1 else ("HE", "PAS", "MT")[index % 3] for index in range(length)]
        self.columns = Columns(("stain", "dose"), Given({"stain": stain, "dose": [index / 8 for index in range(length)]}))

    @property
    def hashes(self) -> IndexHashes:
        return IndexHashes(repr((self.length, sorted(self.bad))), repr((self.length, self.words)), repr(self.class_names))

    def digests(self, indices: Sequence[int], on_pictures: Any) -> list[bytes]:
        on_pictures(len(indices))
        return [self.painted.get(index, f"{index:016}".encode()) for index in indices]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index in self.bad:
            raise BadPicture("not a picture", f"number {index}")
        height, width = 12 + index % 7, 12 + index % 5
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        captions = self.captions_of(index)
        file = _file(index)
        return Sample(self.sample_id(index), pixels, 10 * height, 10 * width, self.label_of(index), captions, file=file)

    def sample_id(self, index: int) -> str:
        return f"pictures/{index}"

    def size_of(self, index: int) -> tuple[int, int]:
        return 10 * (12 + index % 7), 10 * (12 + index % 5)

    def label_of(self, index: int) -> int | None:
        return index % 3 if self.labelled else None

    def captions_of(self, index: int) -> tuple[str, ...]:
        if not self.words or index % 5 == 0:
            return ()
        return tuple(f"{self.words} {index // (which + 2)}"[: 3 + which] for which in range(1 + index % 3))

    def captions(self) -> list[str]:
        return [caption for index in range(self.length) for caption in self.captions_of(index)]


def _file(index: int) -> bytes | None:
    """A JPEG of another quality each; every fourth is a lossy WebP, whose quality is unknown."""
    stream = io.BytesIO()
    if index % 4 == 3:
        Image.new("RGB", (8, 8)).save(stream, "WEBP", quality=50)
    else:
        Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=10 + 3 * index)
    return stream.getvalue()


class Letters:
    """A frozen text encoder of 6 places: features of each letter; the places that are free hold something too.

    With `segments` two encoders of 3 places follow one another, so that a caption's tokens are not together.
    """

    def __init__(
        self,
        width: int = 4,
        pooled: bool = True,
        segments: bool = False,
        name: str = "letters",
        computed_in: str = "float32",
    ) -> None:
        self.width, self.pooled, self.segments, self.fingerprint = width, pooled, segments, f"{name} {width} {segments}"
        self.computed_in = computed_in
        self.encoded: list[str] = []

    def encode(self, captions: Sequence[str]) -> TextTokens:
        self.encoded.extend(captions)
        rows = [normal(1, caption, [key(0, self.fingerprint)], (6, self.width))[0] for caption in captions]
        count = torch.tensor([len(caption) and 1 + len(caption) % (3 if self.segments else 6) for caption in captions])
        places = torch.arange(3).repeat(2) if self.segments else torch.arange(6)
        mask = places < count.unsqueeze(1)
        pooled = torch.stack([row.mean(0) for row in rows]) if self.pooled else None
        return TextTokens(torch.stack(rows), mask, pooled)


class Halver:
    """An autoencoder of factor 2 with a deviation; `name` stands for its weights."""

    channels, factor = 3, 2
    raw_range = None

    def __init__(self, name: str = "halver") -> None:
        self.fingerprint = name
        self.encoded = 0

    def encode(self, images: Tensor) -> Posterior:
        self.encoded += len(images)
        mean = torch.nn.functional.avg_pool2d(images, 2) * 1.7
        return Posterior(mean, 0.1 + mean.abs() / 3)

    def decode(self, raw_latents: Tensor) -> Tensor:
        return raw_latents.repeat_interleave(2, 2).repeat_interleave(2, 3)


@dataclass
class Setting:
    """All that a cache is made of, each changeable alone."""

    source: Any = field(default_factory=Pictures)
    autoencoder: Autoencoder = field(default_factory=IdentityAutoencoder)
    encoder: Any = field(default_factory=Letters)
    transform: TransformConfig = TRANSFORM
    views: int = 2
    all_positions: bool = False
    workers: int = 0
    measures: Sequence[Measure] = ()
    columns: Sequence[str] = ()

    def cache(self, path: Path, **changes: Any) -> Cache:
        config = CacheConfig(**{"path": path, "shard_mb": 0.01, "batch_size": 4, **changes})
        captions = None if self.encoder is None else CaptionSettings(self.encoder, self.all_positions)
        pictures = content_hash(self.source)
        return Cache(
            config,
            self.source,
            pictures,
            self.transform,
            self.views,
            self.autoencoder,
            captions,
            CPU,
            self.workers,
            self.measures,
            self.columns,
        )

    def filled(self, path: Path, **changes: Any) -> Cache:
        cache = self.cache(path, **changes)
        with cache:
            fill(cache)
        return cache


def fill(cache: Cache, work: Work | None = None) -> Work:
    work = work or Work()
    for part in cache.parts:
        part.fill(work)
    return work


def content(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def ranges(start: int, batch: int, count: int) -> Iterator[range]:
    return (range(start + i * batch, start + (i + 1) * batch) for i in range(count))
