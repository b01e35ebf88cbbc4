"""Another attribute of the pictures in the place of their class: what a classifier is to learn instead of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError, nearest
from open_ldm.data.columns import Columns, columns_of, spelt
from open_ldm.data.holdout import Part
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary

MOST_LABELS = 1000


@dataclass(frozen=True)
class Bins:
    """Numbers divided into classes: their names, the number that each stands for, and the label of each sample, or None."""

    names: tuple[str, ...]
    centres: tuple[float, ...]
    labels: tuple[int | None, ...]

    @classmethod
    def of(cls, values: np.ndarray[Any, np.dtype[np.float64]], most: int) -> Bins:
        """Make a class of each number, or of more than `most` different ones classes of equally many samples each.

        Args:
            values: float64 [n], NaN where missing.
            most: Largest number of classes.
        """
        known = values[~np.isnan(values)]
        different = np.unique(known)
        if len(different) <= most:
            found, centres = np.searchsorted(different, values), different
            names = tuple(spelt(float(one)) for one in different)
        else:
            edges = np.unique(np.quantile(known, np.arange(1, most) / most))
            own, found = np.searchsorted(edges, known, side="right"), np.searchsorted(edges, values, side="right")
            used = np.unique(own)
            found, centres = np.searchsorted(used, found), np.array([np.median(known[own == one]) for one in used])
            names = tuple(f"{known[own == one].min():.6g} to {known[own == one].max():.6g}" for one in used)
        labels = [None if math.isnan(value) else int(label) for value, label in zip(values, found, strict=True)]
        return cls(names, tuple(float(one) for one in centres), tuple(labels))


def label_by(source: Source, column: str, most: int) -> tuple[Source, tuple[float, ...] | None]:
    """Return a source whose classes are the values of a column, without the samples that have none.

    Args:
        source: The data set.
        column: A column of metadata, or an attribute of the samples.
        most: Largest number of classes that the numbers of a column are divided into.

    Returns:
        The source, and the number that each class stands for, where the column holds numbers.
    """
    columns = columns_of(source)
    if column not in columns:
        return LabelColumn(source, column), None
    numbers = columns[column].as_numbers()
    bins = None if numbers is None else Bins.of(numbers, most)
    labelled: Source = LabelColumn(source, column, bins)
    kept = [index for index in range(len(source)) if labelled.label_of(index) is not None]
    if len(kept) < len(source):
        labelled = Part(labelled, kept, f"part with {column}", f"with a value in {column}")
    return labelled, None if bins is None else bins.centres


class LabelColumn:
    """A source whose classes are the values of a column in alphabetic order; all else is the inner source's.

    The column is one of the metadata, or one of the samples' `attributes`. For the latter every sample is read once when it is
    opened, since only the sample knows its attributes.
    """

    def __init__(self, inner: Source, column: str, bins: Bins | None = None) -> None:
        self.inner, self.column = inner, column
        if bins is not None:
            self.class_names, self._labels = bins.names, list(bins.labels)
            return
        if column in (known := columns_of(inner)):
            words = known[column].as_words()
            values = [words.at(index) for index in range(len(inner))]
        else:
            values = [_value(inner, index, column) for index in range(len(inner))]
        self.class_names = tuple(sorted({str(value) for value in values if value is not None}))
        if len(self.class_names) > MOST_LABELS:
            raise DataError(
                f"column {column!r} has {len(self.class_names):,} different values",
                needed=f"at most {MOST_LABELS:,}, to be used as labels",
            )
        order = {name: number for number, name in enumerate(self.class_names)}
        self._labels = [None if value is None else order[str(value)] for value in values]

    @property
    def columns(self) -> Columns:
        """Columns of metadata of the inner source."""
        return columns_of(self.inner)

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
    names = list(dict.fromkeys([*columns_of(source), *attributes]))
    known = nearest(column, names) if names else "a source whose samples have attributes"
    problem = "is no word and no number" if column in attributes else "is missing"
    raise DataError(f"column {column!r} of {source.sample_id(index)} {problem}", needed=known)
