"""The rows of a table besides the pictures' pixels: listed in memory, or mapped from the sidecars of arrow files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from open_ldm.data.permutation import Indices
from open_ldm.sources.digests import StoredPicture
from open_ldm.sources.hub_columns import HubColumns
from open_ldm.sources.labels import Classes

NO_PICTURE = "row without a picture"

Sizes = np.ndarray[Any, np.dtype[np.int32]]


class TableRows(Protocol):
    """Rows of a table. Before `settle` has given the classes, they have no labels.

    Attributes:
        columns: Which column is what.
        features: The types of the columns, from `datasets`.
        known: Hashes of the whole table that are stored, by a hash of the settings that they depend on.
    """

    columns: HubColumns
    features: Any
    known: Mapping[str, Sequence[str]]

    def __len__(self) -> int: ...

    @property
    def named(self) -> bool:
        """Whether a column names the samples; otherwise rows are counted."""

    @property
    def captioned(self) -> int:
        """Number of rows with captions."""

    @property
    def without_picture(self) -> int:
        """Number of rows without a picture."""

    @property
    def outside(self) -> int:
        """Number of rows that name a file in place of holding a picture."""

    @property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """How many rows have each label, in the order in which labels first occur."""

    def settle(self, classes: Classes) -> None:
        """Take over what index each label has."""

    def label(self, index: int) -> int:
        """Return the class of a row, or NO_LABEL."""

    def labels(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return the classes of all rows, int32 [n]."""

    def faults(self) -> list[tuple[int, str]]:
        """List the numbers and faults of all rows that cannot be used, by their numbers."""

    def sample_id(self, index: int) -> str:
        """Return the name of a row."""

    def names(self) -> tuple[str, ...] | None:
        """Return the names of all rows; None where they are counted."""

    def size_in_columns(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) that columns give a row; (0, 0) where they do not."""

    def sizes_in_columns(self) -> Sizes | None:
        """Return that of all rows, int32 [n, 2]; None without such columns."""

    def known_size(self, index: int, reading: Any) -> tuple[int, int] | None:
        """Return the original (height, width) of a picture that is stored, as the settings `reading` give it; None else."""

    def is_outside(self, index: int) -> bool:
        """Return whether a row does not hold its picture's bytes."""

    def path_at(self, index: int) -> str | None:
        """Return the file that a row names in place of a picture; None where it names none."""

    def outside_at(self, number: int) -> int:
        """Return which row is number `number` of those that name a file."""

    def picture_at(self, index: int) -> bytes:
        """Return the bytes of a picture that a row holds."""

    def stored_at(self, index: int) -> StoredPicture:
        """Return where a picture that a row holds is, for its digest."""

    def cell(self, index: int, column: str) -> Any:
        """Return what a row has in a column."""

    def values_of(self, column: str) -> Iterator[Any]:
        """Read one column of all rows in order."""

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return the digests of rows, 16 bytes each, zeros for bad ones; None where they are not known."""

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return the number of each row that a hold-out of this seed compares; None where they are not known."""
