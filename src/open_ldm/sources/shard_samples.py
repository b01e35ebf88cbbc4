"""The samples of shards, by their numbers: listed in memory from the index of each shard, or mapped from sidecars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from open_ldm.data.permutation import Indices
from open_ldm.data.sample import printable
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, Classes
from open_ldm.sources.shard_index import ShardIndex
from open_ldm.sources.shard_rows import rows_of
from open_ldm.sources.shard_table import Told

Array = np.ndarray[Any, np.dtype[Any]]
Digest = Any
"""What hashlib gives."""


class Row(NamedTuple):
    """Where a sample lies, as `shard_rows.ROW`."""

    shard: int
    label: int
    offset: int
    size: int
    text_offset: int
    text_size: int
    text_is_json: bool
    text_hash: int
    original_height: int
    original_width: int

    @property
    def original_size(self) -> tuple[int, int] | None:
        """The (height, width) that metadata give; None where they give none."""
        return (self.original_height, self.original_width) if self.original_height else None


class ShardSamples(Protocol):
    """The samples of shards. Before `settle` has given the classes, rows have no labels."""

    told: Told

    def __len__(self) -> int: ...

    @property
    def sizes(self) -> Indices:
        """Number of samples in each shard, int64."""

    @property
    def captioned(self) -> int:
        """Number of samples with captions that are not empty."""

    @property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """How many samples have each label, in the order in which labels first occur."""

    @property
    def json_places(self) -> Indices | None:
        """Offset and size of each KEY.json, int64 [n, 2]; None where `json_of` gives its bytes."""

    def settle(self, classes: Classes) -> None:
        """Take over what index each label has; without a usable one a sample is bad where there are classes."""

    def row(self, index: int) -> Row:
        """Return where a sample lies."""

    def key(self, index: int) -> str:
        """Return the key of a sample, which may hold bytes that are no UTF-8."""

    def fault(self, index: int) -> str:
        """Say what is wrong with a sample; '' where nothing is known to be."""

    def faults(self) -> list[tuple[int, str]]:
        """List the numbers and faults of all bad samples, by their numbers."""

    def text_place(self, index: int) -> tuple[int, int, bool]:
        """Return the offset and size of the captions of a sample, 0 for none, and whether they stand in KEY.json."""

    def text_of(self, index: int) -> bytes | None:
        """Return the caption file of a sample, or the .json with its captions; None where the shard must be read."""

    def json_of(self, index: int) -> bytes | None:
        """Return the KEY.json of a sample; None where the shard must be read."""

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return the digests of samples, 16 bytes each, zeros for bad ones; None where they are not known."""

    def digest_of(self, index: int) -> bytes | None:
        """Return the digest of one sample, whatever it is; None where it is not known."""

    def bytes_of_shard(self, shard: int) -> int | None:
        """Return the length of a shard in bytes; None where it is not known."""

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return the number of each sample that a hold-out of this seed compares; None where they are not known."""

    def require_unchanged(self, shard: int) -> None:
        """Raise DataError for a shard that is there and is not in the state that its sidecar belongs to."""

    def hash_keys(self, digest: Digest) -> None:
        """Add all keys to a hash, as printable text with zeros between them."""

    def hash_rows(self, digest: Digest) -> None:
        """Add all rows to a hash."""

    def hash_column(self, digest: Digest, name: str) -> None:
        """Add one column of all rows to a hash."""


class ListedSamples:
    """Samples in memory: a row of numbers each, and a key."""

    def __init__(self, indices: Iterable[ShardIndex]) -> None:
        rows, places, self._keys, self._faults = [], [], list[str](), dict[int, str]()
        self._labels: list[int | str | None] = []
        without, merged, ignored, names, self.captioned = 0, 0, Counter[str](), dict[str, None](), 0
        for shard, index in enumerate(indices):  # one after the other: entries take far more memory than what is kept
            self._faults |= {len(self._keys) + row: entry.fault for row, entry in enumerate(index.entries) if entry.fault}
            self._keys += [entry.key for entry in index.entries]
            self._labels += [entry.label for entry in index.entries]
            self.captioned += sum(entry.captioned for entry in index.entries)
            rows.append(rows_of(shard, index.entries))
            places.append(np.array([(entry.json_offset, entry.json_size) for entry in index.entries], np.int64).reshape(-1, 2))
            without, merged = without + index.without_picture, merged + index.merged
            ignored.update(index.ignored)
            names.update(dict.fromkeys(index.names))
        self._count = len(rows)
        self._rows, self.json_places = np.concatenate(rows), np.concatenate(places)
        folders = {key.partition("/")[0] for key in self._keys if "/" in key}
        self.told = Told(without, ignored, merged, tuple(names), len(folders))

    @cached_property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """See `ShardSamples`."""
        return Counter(self._labels)

    def settle(self, classes: Classes) -> None:
        """See `ShardSamples`. What is kept from here on is small."""
        self._rows["label"] = [classes.index_of[label] for label in self._labels]
        if classes.names:
            for row in np.flatnonzero(self._rows["label"] == NO_LABEL):
                self._faults.setdefault(int(row), BAD_LABEL)
        self._labels = []

    @property
    def sizes(self) -> Indices:
        """See `ShardSamples`."""
        return np.bincount(self._rows["shard"], minlength=self._count).astype(np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def row(self, index: int) -> Row:
        """See `ShardSamples`."""
        return Row(*self._rows[index].tolist())

    def key(self, index: int) -> str:
        """See `ShardSamples`."""
        return self._keys[index]

    def fault(self, index: int) -> str:
        """See `ShardSamples`."""
        return self._faults.get(index, "")

    def faults(self) -> list[tuple[int, str]]:
        """See `ShardSamples`."""
        return sorted(self._faults.items())

    def text_place(self, index: int) -> tuple[int, int, bool]:
        """See `ShardSamples`."""
        row = self.row(index)
        return row.text_offset, row.text_size, row.text_is_json

    def text_of(self, index: int) -> bytes | None:
        """Return None: captions are read from the shard."""
        return None

    def json_of(self, index: int) -> bytes | None:
        """Return None: it is read from the shard."""
        return None

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return None: pictures are read for their digests."""
        return None

    def digest_of(self, index: int) -> bytes | None:
        """Return None: nothing is stored to compare with."""
        return None

    def bytes_of_shard(self, shard: int) -> int | None:
        """Return None: the disk knows."""
        return None

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return None: they are computed from the ids."""
        return None

    def require_unchanged(self, shard: int) -> None:
        """Do nothing: the index was made for the shards as they are."""

    def hash_keys(self, digest: Digest) -> None:
        """See `ShardSamples`."""
        digest.update("\0".join(map(printable, self._keys)).encode())

    def hash_rows(self, digest: Digest) -> None:
        """See `ShardSamples`."""
        digest.update(self._rows.tobytes())

    def hash_column(self, digest: Digest, name: str) -> None:
        """See `ShardSamples`."""
        digest.update(self._rows[name].tobytes())
