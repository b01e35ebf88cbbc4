"""Rows of a table without an index: what they say besides their pictures is read when the table is opened, and kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.core.extras import need
from open_ldm.data.permutation import Indices
from open_ldm.sources.digests import StoredPicture
from open_ldm.sources.hub_columns import HubColumns, MappedColumn, bytes_in, paths_without_bytes, values_of
from open_ldm.sources.hub_rows import captions_in_cell, counted_id, labels_of, names_of, sizes_of
from open_ldm.sources.hub_table import HubTable
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, Classes
from open_ldm.sources.table_rows import NO_PICTURE, Sizes


class ListedRows:
    """Rows whose labels, names, sizes and missing pictures are in memory. See `TableRows` for what each method does.

    Args:
        opened: The table.
        columns: Which column is what.

    Raises:
        DataError: It has no rows, or an original size is no size.
    """

    def __init__(self, opened: HubTable, columns: HubColumns) -> None:
        rows = opened.rows
        self.columns, self.features, self.known = columns, rows.features, dict[str, Sequence[str]]()
        if not len(rows):
            raise DataError(f"{opened.path} has no rows", needed="one row per picture")
        if type(self.features[columns.picture]).__name__ == "Image":
            rows = rows.cast_column(columns.picture, need("datasets", extra="data").Image(decode=False))
        if len(rows) != rows.data.num_rows:
            rows = rows.flatten_indices()
        self._rows, self._split, self._path = rows, opened.split, opened.path
        self._files = [Path(file["filename"]) for file in rows.cache_files]
        self._outside = paths_without_bytes(rows, columns.picture)
        self._outside_rows = [index for index, path in self._outside.items() if path is not None]
        self._names = names_of(rows, columns)
        self._given: Sequence[int | str | None] = labels_of(rows, columns)
        self._labels = np.full(len(rows), NO_LABEL, np.int32)
        self._classes = Classes({}, ())
        self._sizes = sizes_of(rows, columns, opened.path)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def named(self) -> bool:
        """See `TableRows`."""
        return self._names is not None

    @property
    def captioned(self) -> int:
        """See `TableRows`."""
        text = self.columns.text
        return sum(bool(captions_in_cell(cell)) for cell in self.values_of(text)) if text else 0

    @property
    def without_picture(self) -> int:
        """See `TableRows`."""
        return len(self._outside) - len(self._outside_rows)

    @property
    def outside(self) -> int:
        """See `TableRows`."""
        return len(self._outside_rows)

    @property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """See `TableRows`."""
        return Counter(self._given)

    def settle(self, classes: Classes) -> None:
        """See `TableRows`. What is kept from here on is small."""
        self._classes, self._labels = classes, np.array([classes.index_of[label] for label in self._given], np.int32)
        self._given = ()

    def label(self, index: int) -> int:
        """See `TableRows`."""
        return int(self._labels[index])

    def labels(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """See `TableRows`."""
        return self._labels

    def faults(self) -> list[tuple[int, str]]:
        """See `TableRows`."""
        bad = np.flatnonzero(self._labels == NO_LABEL).tolist() if self._classes.names else []
        without = (index for index, path in self._outside.items() if path is None)
        return sorted((dict.fromkeys(bad, BAD_LABEL) | dict.fromkeys(without, NO_PICTURE)).items())

    def sample_id(self, index: int) -> str:
        """See `TableRows`."""
        return counted_id(self._split, index) if self._names is None else self._names[index]

    def names(self) -> tuple[str, ...] | None:
        """See `TableRows`."""
        return self._names

    def size_in_columns(self, index: int) -> tuple[int, int]:
        """See `TableRows`."""
        return (0, 0) if self._sizes is None else (int(self._sizes[index, 0]), int(self._sizes[index, 1]))

    def sizes_in_columns(self) -> Sizes | None:
        """See `TableRows`."""
        return self._sizes

    def known_size(self, index: int, reading: Any) -> None:
        """Return None: pictures are read for their sizes."""

    def is_outside(self, index: int) -> bool:
        """See `TableRows`."""
        return index in self._outside

    def path_at(self, index: int) -> str | None:
        """See `TableRows`."""
        return self._outside[index]

    def outside_at(self, number: int) -> int:
        """See `TableRows`."""
        return self._outside_rows[number]

    def picture_at(self, index: int) -> bytes:
        """See `TableRows`."""
        content: bytes = bytes_in(self.cell(index, self.columns.picture)).to_pybytes()
        return content

    def stored_at(self, index: int) -> StoredPicture:
        """See `TableRows`."""
        first = self._files[0] if self._files else Path(self._path, "in memory")
        return StoredPicture(first, index, read=partial(self.picture_at, index), state=self._state)

    def cell(self, index: int, column: str) -> Any:
        """See `TableRows`."""
        known = self._mapped.get(column)
        if known is None:
            known = self._mapped[column] = MappedColumn(self._rows.data, column)
        return known[index]

    def values_of(self, column: str) -> Iterator[Any]:
        """See `TableRows`."""
        return values_of(self._rows, column)

    def digests_of(self, indices: Indices) -> None:
        """Return None: pictures are read for their digests."""

    def hold_out_numbers(self, seed: int) -> None:
        """Return None: they are computed from the ids."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}  # it would be copied, not mapped

    @cached_property
    def _mapped(self) -> dict[str, MappedColumn]:
        return {}

    @cached_property
    def _state(self) -> bytes:
        """Identify the files behind the table and the column, beside what `digests` looks at itself."""
        stats = [
            (file.name, status.st_ino, status.st_size, status.st_mtime_ns) for file in self._files if (status := file.stat())
        ]
        said = repr((self.columns.picture, stats)).encode("utf-8", "backslashreplace")
        return hashlib.blake2b(said, digest_size=16).hexdigest().encode()
