"""Another attribute of the pictures in the place of their class: what a classifier is to learn instead of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from open_ldm.core.errors import DataError, nearest
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary

MOST_LABELS = 1000


class LabelColumn:
    """A source whose classes are the values of `attributes[column]` in alphabetic order; all else is the inner source's.

    Every sample is read once when it is opened, since only the sample knows its attributes.
    """

    def __init__(self, inner: Source, column: str) -> None:
        self.inner, self.column = inner, column
        values = [_value(inner, index, column) for index in range(len(inner))]
        self.class_names: tuple[str, ...] = tuple(sorted({value for value in values if value is not None}))
        if len(self.class_names) > MOST_LABELS:
            raise DataError(
                f"column {column!r} has {len(self.class_names):,} different values",
                needed=f"at most {MOST_LABELS:,}, to be used as labels",
            )
        order = {name: number for number, name in enumerate(self.class_names)}
        self._labels = [None if value is None else order[value] for value in values]

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""
        whole = self.inner.summary
        return replace(whole, classes=len(self.class_names), layout=f"{whole.layout}; classes from column {self.column}")

    @property
    def fingerprint(self) -> str:
        """Hash of the inner source's fingerprint and of the column."""
        return self._hash(self.inner.fingerprint)

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the inner source, of which the labels are others."""
        inner = self.inner.hashes
        return replace(inner, labels=self._hash(inner.labels))

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the hashes of the inner source's pictures."""
        return self.inner.digests(indices, on_pictures)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.inner[index], label=self._labels[index])

    def sample_id(self, index: int) -> str:
        """Return the id of the sample in the inner source."""
        return self.inner.sample_id(index)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels. Raises BadPicture."""
        return self.inner.size_of(index)

    def label_of(self, index: int) -> int | None:
        """Return the number of the sample's value among all values; None where it has none."""
        return self._labels[index]

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of the sample in the inner source."""
        return self.inner.captions_of(index)

    def captions(self) -> list[str]:
        """Return all captions of the inner source."""
        return self.inner.captions()

    def _hash(self, inner: str) -> str:
        return hashlib.blake2b(f"{inner}/{self.column}".encode(), digest_size=16).hexdigest()


def _value(source: Source, index: int, column: str) -> str | None:
    """The attribute in words; None for a picture that cannot be read. Raises DataError where it is missing or not one value."""
    try:
        attributes = source[index].attributes
    except BadPicture:
        return None
    value: Any = attributes.get(column)
    if isinstance(value, str | int | float):
        return str(value)
    known = nearest(column, list(attributes)) if attributes else "a source whose samples have attributes"
    problem = "is no word and no number" if column in attributes else "is missing"
    raise DataError(f"column {column!r} of {source.sample_id(index)} {problem}", needed=known)
