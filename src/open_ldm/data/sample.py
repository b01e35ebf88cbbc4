"""What flows out of a data set: Sample -> (transform) -> Batch, and the record of what was done to each picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One picture as its source gives it, before any transform.

    `pixels` uint8 [H, W, C]: RGB, or the channels of the source. `original_height_px`, `original_width_px`: the size of the
    picture as it was first made, which can be larger than the stored file when the source knows it (a `metadata.jsonl`
    column, say).
    `label` is an index into the source's `class_names`. `captions` may hold several; one is drawn per view.
    `attributes`: what a source knows for certain about the picture (the ground truth of `shapes`); metrics read it.
    """

    id: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    original_height_px: int
    original_width_px: int
    label: int | None = None
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TransformRecord:
    """How one training view was made from its picture: all that a control condition may know.

    The original picture (`original_*_px`) was resized to `scaled_*_px`; from that a box of `height_px` x `width_px` was
    cut whose upper left corner lies at (`crop_top_px`, `crop_left_px`); then mirrored left-right if `flip`.
    """

    original_height_px: int
    original_width_px: int
    scaled_height_px: int
    scaled_width_px: int
    crop_top_px: int
    crop_left_px: int
    height_px: int
    width_px: int
    flip: bool


@dataclass(frozen=True)
class View:
    """One training view: the transformed picture, its record and what the picture shows."""

    id: str
    position: int
    pixels: Tensor
    """uint8 [C, H, W]."""
    record: TransformRecord
    label: int | None
    caption: str | None
    index: int
    """Of the sample in its source."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be used, and why. `reason` is a short fixed phrase, so that reasons can be counted."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Batch:
    """Views side by side. `pixels` uint8 [B, C, H, W]; `labels` long [B] or None; `captions` one per view or None.

    `positions`: place of each view in the endless sample order; every random draw of training is keyed by it.
    `bad`: samples that had to be replaced while this batch was read. `indices`: of the samples in their source.
    """

    ids: tuple[str, ...]
    positions: tuple[int, ...]
    pixels: Tensor
    records: tuple[TransformRecord, ...]
    labels: Tensor | None
    captions: tuple[str, ...] | None
    bad: tuple[BadSample, ...] = ()
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class SourceSummary:
    """What a source found, in words a user can check: '1,204 pictures, 4 classes, no captions'. `channels`: None for RGB."""

    pictures: int
    classes: int
    captioned: int
    layout: str
    channels: int | None = None

    def sentence(self) -> str:
        """One line: number of pictures, classes and captions, and the detected layout."""
        classes = f"{self.classes:,} classes" if self.classes else "no classes"
        if self.captioned == self.pictures and self.pictures:
            captions = "captions"
        else:
            captions = f"{self.captioned:,} captions" if self.captioned else "no captions"
        of = "" if self.channels is None else f" of {self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.pictures:,} pictures{of}, {classes}, {captions} ({self.layout})"


@dataclass(frozen=True)
class IndexHashes:
    """Hashes of what a source's index says, apart from each other: new captions leave the pictures what they were.

    `pictures`: which there are, in what order, how they are read and which are known to be unusable; not their content, which
    `data.content.content_hash` tells.
    """

    pictures: str
    captions: str
    labels: str

    def of_rows(self, indices: Iterable[int]) -> IndexHashes:
        """The hashes of a part of the source: the samples at `indices`, in that order."""
        rows = hashlib.blake2b(b"".join(index.to_bytes(8) for index in indices), digest_size=16).hexdigest()
        return IndexHashes(f"{self.pictures}/{rows}", f"{self.captions}/{rows}", f"{self.labels}/{rows}")


class Source(Protocol):
    """A random-access data set: `len(source)`, `source[i]`. Everything about one sample follows from its index.

    `source[i]` raises `BadPicture` for a sample that cannot be used; nothing else may escape for bad content.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order; empty when there are none."""

    @property
    def summary(self) -> SourceSummary:
        """What was found."""

    @property
    def fingerprint(self) -> str:
        """Hash of the index: changes when pictures, labels or captions are added, removed or renamed, not with a picture's
        content."""

    @property
    def hashes(self) -> IndexHashes:
        """The index hashed in parts; computed when asked for."""

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """16 bytes for each sample at `indices` that tell one content from another, equal on every machine; or why the picture
        cannot be read now. Reads every byte of what is not remembered; `on_pictures` is told how many are done."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def sample_id(self, index: int) -> str:
        """Id of a sample without reading it."""

    def size_of(self, index: int) -> tuple[int, int]:
        """Original (height, width) in pixels without decoding. Raises `BadPicture` for an unusable header."""

    def label_of(self, index: int) -> int | None:
        """Class of a sample without reading its picture, None when it has none."""

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Captions of one sample, without reading its picture; none where they are no captions."""

    def captions(self) -> list[str]:
        """All captions, without reading pictures (to build a vocabulary); empty when there are none."""


def printable(name: str) -> str:
    """A name that can be written as UTF-8: bytes that are none (lone surrogates, as Python reads them) are spelt out.

    Different names stay different. To open a file, use the name as it was.
    """
    return name.encode("utf-8", "backslashreplace").decode()


class BadPicture(Exception):  # noqa: N818 - a verdict about a picture, not a fault of the program
    """A sample that cannot be used; the loader counts it and takes another.

    `of_disk`: the bytes could not be had, which may pass; otherwise they are no usable picture, whoever reads them.
    """

    def __init__(self, reason: str, detail: str = "", *, of_disk: bool = False) -> None:
        self.reason, self.of_disk = reason, of_disk
        self.detail = printable(detail)
        super().__init__(f"{reason}: {self.detail}" if detail else reason)


def collate(views: list[View], bad: tuple[BadSample, ...] = ()) -> Batch:
    """Put views of equal size side by side."""
    labels = [view.label for view in views if view.label is not None]
    captions = tuple(view.caption for view in views if view.caption is not None)
    return Batch(
        ids=tuple(view.id for view in views),
        positions=tuple(view.position for view in views),
        pixels=torch.stack([view.pixels for view in views]),
        records=tuple(view.record for view in views),
        labels=torch.tensor(labels, dtype=torch.long) if len(labels) == len(views) else None,
        captions=captions if len(captions) == len(views) else None,
        bad=bad,
        indices=tuple(view.index for view in views),
    )
