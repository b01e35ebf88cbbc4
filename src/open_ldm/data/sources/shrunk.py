"""Another source's pictures, shrunk to sizes that vary and that show in the pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from open_ldm.core.config import Config
from open_ldm.core.seeds import key
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary
from open_ldm.data.sources.folder import FolderConfig
from open_ldm.data.sources.shapes import ShapesConfig
from open_ldm.data.sources.shards import ShardsConfig
from open_ldm.data.transforms import resampled


class ShrunkConfig(Config):
    """A source whose pictures are shrunk to random sizes, which count as their original sizes.

    Attributes:
        of: The inner source.
        short_side_px: Range of the short side, which is log-uniform in it; pictures are never enlarged.
        seed: The size of a picture is a function of the seed and the picture's id.
    """

    kind: Literal["shrunk"] = "shrunk"
    of: Annotated[ShapesConfig | FolderConfig | ShardsConfig, Field(discriminator="kind")]
    short_side_px: tuple[int, int]
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _is_a_range(self) -> ShrunkConfig:
        if not 1 <= self.short_side_px[0] <= self.short_side_px[1]:
            raise ValueError(f"short_side_px={list(self.short_side_px)}; needed: [low, high] with 1 <= low <= high")
        return self

    def open(self) -> ShrunkSource:
        """Open the inner source and shrink it. Raises what the inner source raises."""
        return ShrunkSource(self, self.of.open())


@dataclass(frozen=True)
class ShrunkSource:
    """Random-access data set; ids, labels and captions are those of the inner source."""

    config: ShrunkConfig
    inner: Source

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the inner source."""
        return self.inner.class_names

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""
        low, high = self.config.short_side_px
        whole = self.inner.summary
        return replace(whole, layout=f"{whole.layout}; shrunk to short sides of {low} to {high} px")

    @property
    def fingerprint(self) -> str:
        """Hash of the inner source's fingerprint and of how it is shrunk."""
        return self._hash(self.inner.fingerprint)

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the inner source, of which shrinking changes that of the pictures."""
        inner = self.inner.hashes
        return replace(inner, pictures=self._hash(inner.pictures))

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the hashes of the inner source's pictures; `hashes.pictures` covers how they are shrunk."""
        return self.inner.digests(indices, on_pictures)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self.inner[index]
        height, width = self._shrunk(index, (sample.original_height_px, sample.original_width_px))
        pixels = sample.pixels
        if height < pixels.shape[0] or width < pixels.shape[1]:  # the stored picture may be smaller than the original was
            pixels = resampled(pixels, (width, height))
        return replace(sample, pixels=pixels, original_height_px=height, original_width_px=width)

    def sample_id(self, index: int) -> str:
        """Return the id of the sample in the inner source."""
        return self.inner.sample_id(index)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the (height, width) in pixels after shrinking. Raises BadPicture."""
        return self._shrunk(index, self.inner.size_of(index))

    def label_of(self, index: int) -> int | None:
        """Return the class of the sample in the inner source."""
        return self.inner.label_of(index)

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of the sample in the inner source."""
        return self.inner.captions_of(index)

    def captions(self) -> list[str]:
        """Return all captions of the inner source."""
        return self.inner.captions()

    def _shrunk(self, index: int, size: tuple[int, int]) -> tuple[int, int]:
        low, high = self.config.short_side_px
        drawn = key(self.config.seed, f"shrunk {self.inner.sample_id(index)}") / 2**63
        scale = min(1.0, low * (high / low) ** drawn / min(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _hash(self, inner: str) -> str:
        content = f"{inner}/{list(self.config.short_side_px)}/{self.config.seed}"
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
