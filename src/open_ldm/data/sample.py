"""The types of a data set: Source, Sample, View, Batch, and the record of how each view was made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError
from open_ldm.data.entangle import ViewPreference

UNKNOWN = math.nan
"""The value of what cannot be known of a picture. A control that reads it is dropped for that picture."""


@dataclass(frozen=True)
class Sample:
    """One picture as its source gives it, before any transform.

    Attributes:
        id: Name of the sample in its source.
        pixels: uint8 [H, W, C]: RGB, or the channels of the source.
        original_height_px: Height of the picture as it was first made. It can be larger than that of the stored file when the
            source knows it, e.g. from a column of `metadata.jsonl`.
        original_width_px: Width, likewise.
        label: Index into the source's `class_names`; None without a class.
        captions: Any number of captions; one is drawn per view.
        attributes: What the source knows for certain about the picture (the ground truth of `shapes`), for metrics.
        preference: How its views are to be cut, where that depends on what the picture shows.
        file: The bytes of the picture's file, where it comes from one.
    """

    id: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    original_height_px: int
    original_width_px: int
    label: int | None = None
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    preference: ViewPreference | None = None
    file: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TransformRecord:
    """How one training view was made from its picture: all that a control condition may know.

    The original picture (`original_*_px`) was resized to `scaled_*_px`. From that a box of `height_px` x `width_px` was cut
    with its upper left corner at (`crop_top_px`, `crop_left_px`), and the box was mirrored left-right if `flip`, then turned
    clockwise by 90 degrees `quarter_turns` times (0 to 3).

    `saturation` and `brightness` of the stored picture are in percent, `jpeg_quality` of its file is 1 to 100
    (data/measures.py). They are None unless a control reads them, and UNKNOWN where they cannot be known. `columns` has the
    values of the columns of metadata that controls read, None where one is missing (data/columns.py).
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
    quarter_turns: int = 0
    saturation: float | None = None
    brightness: float | None = None
    jpeg_quality: float | None = None
    columns: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """One training view: the transformed picture, its record, and what the picture shows."""

    id: str
    position: int
    pixels: Tensor
    """uint8 [C, H, W]."""
    record: TransformRecord
    label: int | None
    caption: str | None
    index: int
    """Index of the sample in its source."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be used, and why. `reason` is a short fixed phrase, so that reasons can be counted."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Batch:
    """A batch of B views.

    Attributes:
        ids: Id of each sample.
        positions: Position of each view in the endless sample order; it keys every random number of training.
        pixels: uint8 [B, C, H, W].
        records: How each view was made.
        labels: Class labels [B], int64; None unless every sample has one.
        captions: One per view, or None.
        bad: Samples that had to be replaced while this batch was read.
        indices: Indices of the samples in their source.
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
    """What a source contains, in words that a user can check: '1,204 pictures, 4 classes, no captions'.

    Attributes:
        pictures: Number of pictures.
        classes: Number of classes.
        captioned: Number of pictures with a caption.
        layout: The detected layout, in words.
        channels: Number of channels; None for RGB.
    """

    pictures: int
    classes: int
    captioned: int
    layout: str
    channels: int | None = None

    def sentence(self) -> str:
        """Write one line: number of pictures, classes and captions, and the detected layout."""
        classes = counted(self.classes, "class", "classes") if self.classes else "no classes"
        if self.captioned == self.pictures and self.pictures:
            captions = "captions"
        else:
            captions = counted(self.captioned, "caption") if self.captioned else "no captions"
        of = "" if self.channels is None else f" of {self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{counted(self.pictures, 'picture')}{of}, {classes}, {captions} ({self.layout})"


@dataclass(frozen=True)
class IndexHashes:
    """Separate hashes of the parts of a source's index, so that new captions leave the hash of the pictures as it was.

    `pictures` covers which pictures there are, their order, how they are read and which are known to be unusable; it does not
    cover their content, which `data.content.content_hash` does.
    """

    pictures: str
    captions: str
    labels: str

    def of_rows(self, indices: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]) -> IndexHashes:
        """Compute the hashes of a part of the source: the samples at `indices`, in that order."""
        rows = hashlib.blake2b(np.asarray(indices, dtype=">i8").tobytes(), digest_size=16).hexdigest()
        return IndexHashes(f"{self.pictures}/{rows}", f"{self.captions}/{rows}", f"{self.labels}/{rows}")


class Source(Protocol):
    """A random-access data set: `len(source)`, `source[i]`. Everything about one sample follows from its index.

    `source[i]` raises `BadPicture` for a sample that cannot be used, and no other error for bad content.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order; empty when there are none."""

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""

    @property
    def fingerprint(self) -> str:
        """Hash of the index, which changes when pictures, labels or captions are added, removed or renamed.

        It does not depend on the content of the pictures.
        """

    @property
    def hashes(self) -> IndexHashes:
        """The index hashed in parts, computed at every access."""

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute 16 bytes for each sample at `indices` that identify its content on every machine.

        Every byte is read that is not remembered. `on_pictures` is called with the number of pictures done. For a picture
        that cannot be read now the result holds the reason.
        """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels without decoding. Raises `BadPicture` for an unusable header."""

    def label_of(self, index: int) -> int | None:
        """Return the class of a sample without reading its picture; None when it has none."""

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a sample without reading its picture; an empty tuple where they cannot be used."""

    def captions(self) -> list[str]:
        """Return all captions without reading pictures (to build a vocabulary); empty when there are none."""


def printable(name: str) -> str:
    """Make a name that can be written as UTF-8: bytes that are not UTF-8 (lone surrogates in Python) are spelt out.

    Different names stay different. To open a file, use the original name.
    """
    return name.encode("utf-8", "backslashreplace").decode()


class BadPicture(Exception):  # noqa: N818 - it describes a picture, not a fault of the program
    """A sample that cannot be used; the loader counts it and takes another.

    Args:
        reason: A short fixed phrase, so that reasons can be counted.
        detail: What exactly is wrong.
        of_disk: The bytes could not be read, which may pass; otherwise the bytes themselves are not a usable picture.
    """

    def __init__(self, reason: str, detail: str = "", *, of_disk: bool = False) -> None:
        self.reason, self.of_disk = reason, of_disk
        self.detail = printable(detail)
        super().__init__(f"{reason}: {self.detail}" if detail else reason)


def unreadable(sample_id: str, verdict: BadPicture) -> DataError:
    """Return the error for a picture that the disk does not give, where the result is kept and must not lack it."""
    return DataError(
        f"picture {sample_id} cannot be read now ({verdict})",
        needed="every picture readable, since the results are kept",
        fix="check the disk and its permissions and run the same command again, or remove the file from the data",
    )


def collate(views: list[View], bad: tuple[BadSample, ...] = ()) -> Batch:
    """Stack views of equal size to a batch."""
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
