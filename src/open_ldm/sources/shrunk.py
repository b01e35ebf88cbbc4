"""Another source's pictures, shrunk to sizes that vary and that show in the pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from open_ldm.core.config import Config
from open_ldm.core.errors import DataError
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.seeds import key
from open_ldm.data.columns import Columns, columns_of
from open_ldm.data.holdout import Part
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary
from open_ldm.data.stored import expect_streams, hold_out_numbers, stored_digests
from open_ldm.data.transforms import resampled
from open_ldm.sources.categories import Categories, EntangleShrunkConfig, Groups, check_told
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shards import ShardsConfig

_LATER_SETTINGS = ("entangle", "told")


class ShrunkConfig(Config):
    """A source whose pictures are shrunk to random sizes, which count as their original sizes.

    Attributes:
        of: The inner source.
        short_side_px: Range of the short side, which is log-uniform in it; pictures are never enlarged.
        seed: The size of a picture is a function of the seed and the picture's id.
        entangle: Lets the size depend on what the picture shows; null leaves it independent.
        told: Super-classes, and the classes (or categories of `entangle.by`) of each: all that labels and captions tell. A
            caption becomes the name of the super-class. Pictures of no super-class are left out. null tells everything.
    """

    kind: Literal["shrunk"] = "shrunk"
    of: Annotated[ShapesConfig | FolderConfig | ShardsConfig | HuggingFaceConfig, Field(discriminator="kind")]
    short_side_px: tuple[int, int]
    seed: int = Field(default=0, ge=0)
    entangle: EntangleShrunkConfig | None = None
    told: Groups | None = None

    @property
    def strength(self) -> float:
        """Probability that the size depends on what the picture shows."""
        return 0.0 if self.entangle is None else self.entangle.strength

    @property
    def told_text(self) -> str:
        """What labels and captions tell, as text for hashes; empty where they tell everything."""
        by = "class" if self.entangle is None else self.entangle.model_dump(mode="json")["by"]
        return "" if self.told is None else f"/told {json.dumps([self.told, by])}"

    @model_validator(mode="after")
    def _classes_are_told_once(self) -> ShrunkConfig:
        if self.told is not None:
            check_told(self.told)
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), _LATER_SETTINGS)

    @model_validator(mode="after")
    def _is_a_range(self) -> ShrunkConfig:
        if not 1 <= self.short_side_px[0] <= self.short_side_px[1]:
            raise ValueError(f"short_side_px={list(self.short_side_px)}; needed: [low, high] with 1 <= low <= high")
        return self

    def open(self) -> ShrunkSource:
        """Open the inner source and shrink it.

        Raises:
            ConfigError: The pictures have no classes or captions to go by, or `told` names a class that they do not have.
            DataError: `told` leaves all pictures out.
        """
        inner: Source = self.of.open()
        if self.strength == 0 and self.told is None:
            return ShrunkSource(self, inner)
        by = "class" if self.entangle is None else self.entangle.by
        categories = Categories(inner, by, self.told)
        if self.told is None:
            return ShrunkSource(self, inner, categories)
        kept = [index for index in range(len(inner)) if not categories.is_left_out(index)]
        if not kept:
            raise DataError(
                f"data.source.told leaves out all {len(inner):,} pictures",
                needed="classes or categories that some of them have",
            )
        if len(kept) < len(inner):
            inner = Part(inner, kept, "told", self.told_text)
            categories = Categories(inner, by, self.told)
        return ShrunkSource(self, inner, categories)


@dataclass(frozen=True)
class ShrunkSource:
    """Random-access data set; ids, labels and captions are those of the inner source, or as much of them as is told.

    `attributes["class"]` of a sample is its class or category, which labels and captions may hide.
    """

    config: ShrunkConfig
    inner: Source
    categories: Categories | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the inner source, or the super-classes."""
        return self.inner.class_names if self.config.told is None else tuple(self.config.told)

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""
        low, high = self.config.short_side_px
        whole = self.inner.summary
        layout = f"{whole.layout}; shrunk to short sides of {low} to {high} px"
        if self.categories is not None and self.config.strength:
            layout += f", in {100 * self.config.strength:g} % of the pictures as {len(self.categories.names)} categories decide"
        return replace(whole, classes=len(self.class_names), layout=layout)

    @property
    def columns(self) -> Columns:
        """Columns of metadata of the inner source."""
        return columns_of(self.inner)

    @property
    def shard_sizes(self) -> Indices | None:
        """Number of samples in each shard of the inner source; None where it has none."""
        return getattr(self.inner, "shard_sizes", None)

    def expect_streams(self, streams: int) -> None:
        """Pass on how the pictures will be read."""
        expect_streams(self.inner, streams)

    @property
    def fingerprint(self) -> str:
        """Hash of the inner source's fingerprint and of how it is shrunk."""
        return self._hash(f"{self.inner.fingerprint}{self.config.told_text}")

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the inner source, of which shrinking changes that of the pictures, and `told` the others."""
        inner, told = self.inner.hashes, self.config.told_text
        # Sizes that depend on labels or captions change with them.
        shown = f"/{inner.labels}/{inner.captions}{told}" if self.config.strength else ""
        pictures = self._hash(f"{inner.pictures}{shown}")
        if not told:
            return replace(inner, pictures=pictures)
        hidden = f"{inner.labels}/{inner.captions}{told}"
        return IndexHashes(pictures, captions=_hash(f"captions {hidden}"), labels=_hash(f"labels {hidden}"))

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the hashes of the inner source's pictures; `hashes.pictures` covers how they are shrunk."""
        return self.inner.digests(indices, on_pictures)

    def stored_digests(self, indices: Indices) -> bytes | None:
        """Return the digests of the inner source's pictures where it has them stored."""
        return stored_digests(self.inner, indices)

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return what a hold-out of this seed compares, where the inner source has it stored: ids are the same."""
        return hold_out_numbers(self.inner, seed)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self.inner[index]
        height, width = self._shrunk(index, (sample.original_height_px, sample.original_width_px))
        pixels = sample.pixels
        if height < pixels.shape[0] or width < pixels.shape[1]:  # the stored picture may be smaller than the original was
            pixels = resampled(pixels, (width, height))
        sample = replace(sample, pixels=pixels, original_height_px=height, original_width_px=width)
        if self.categories is None:
            return sample
        category = self._category_of(index)
        attributes = sample.attributes if category is None else {**sample.attributes, "class": category}
        return replace(sample, label=self.label_of(index), captions=self.captions_of(index), attributes=attributes)

    def sample_id(self, index: int) -> str:
        """Return the id of the sample in the inner source."""
        return self.inner.sample_id(index)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the (height, width) in pixels after shrinking. Raises BadPicture."""
        return self._shrunk(index, self.inner.size_of(index))

    def label_of(self, index: int) -> int | None:
        """Return the class of the sample in the inner source, or its super-class."""
        if self.config.told is None or self.categories is None:
            return self.inner.label_of(index)
        return self.categories.label_of(self._category_of(index))

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of the sample in the inner source, or in their place the name of the super-class."""
        captions = self.inner.captions_of(index)
        if self.config.told is None or not captions:
            return captions
        label = self.label_of(index)
        return () if label is None else (self.class_names[label],)

    def captions(self) -> list[str]:
        """Return all captions of the inner source, or the super-class of each picture that has captions."""
        if self.config.told is None or not self.inner.summary.captioned:
            return self.inner.captions()
        return [caption for index in range(len(self)) for caption in self.captions_of(index)]

    def _category_of(self, index: int) -> str | None:
        return None if self.categories is None else self.categories.category_of(index)

    def _shrunk(self, index: int, size: tuple[int, int]) -> tuple[int, int]:
        low, high = self.config.short_side_px
        seed, sample_id = self.config.seed, self.inner.sample_id(index)
        drawn = key(seed, f"shrunk {sample_id}") / 2**63
        if self.categories is not None and key(seed, f"entangled size {sample_id}") < int(self.config.strength * 2**63):
            part = self.categories.part_of(self._category_of(index))
            drawn = drawn if part is None else part.within(drawn)
        scale = min(1.0, low * (high / low) ** drawn / min(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _hash(self, inner: str) -> str:
        entangle = self.config.entangle.model_dump_json() if self.config.entangle is not None and self.config.strength else ""
        return _hash(f"{inner}/{list(self.config.short_side_px)}/{self.config.seed}{entangle}")


def _hash(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
