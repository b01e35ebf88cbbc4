"""Samples that lie in sidecars, of tar shards or arrow files: each is mapped when something in it is first asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.data.permutation import Indices
from open_ldm.sources.digests import DIGEST_BYTES
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, Classes
from open_ldm.sources.shard_table import ShardTable
from open_ldm.sources.sidecar import Array, Sidecar

_MOST_MAPPED = 16_384
"""Linux lets a process map 65,530 files."""


class MappedIndex(ABC):
    """What the sidecars of shards tell, by the numbers of the samples; only the table is in memory.

    Before `settle` has given the classes, samples have no labels.

    Args:
        table: The table of the shards.
    """

    def __init__(self, table: ShardTable) -> None:
        self.table, self.told = table, table.told
        self._starts = array("q", (table.sizes.cumsum() - table.sizes).tobytes())
        self._classes = Classes({}, ())
        self._sidecars: dict[int, tuple[Sidecar, Array]] = {}
        self._length = int(table.sizes.sum())

    @abstractmethod
    def changed(self, shard: int) -> bool:
        """Whether a shard is known not to be in the state that its sidecar belongs to."""

    @abstractmethod
    def _read_sidecar(self, shard: int) -> Sidecar:
        """Map the sidecar of a shard. Raises DataError where there is none, or it is of another state than the table."""

    @property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """How many samples have each label, in the order in which labels first occur."""
        return self.table.label_counts

    def settle(self, classes: Classes) -> None:
        """Take over what index each label has; without a usable one a sample is bad where there are classes."""
        self._classes = classes
        self._sidecars.clear()

    @property
    def sizes(self) -> Indices:
        """Number of samples in each shard, int64."""
        return self.table.sizes

    @property
    def captioned(self) -> int:
        """Number of samples with captions that are not empty."""
        return int(self.table.captioned.sum())

    def __len__(self) -> int:
        return self._length

    def label(self, index: int) -> int:
        """Return the class of a sample, or NO_LABEL."""
        shard, at = self._place(index)
        sidecar, labels = self._sidecar(shard)
        return int(labels[sidecar["label"][at]])

    def labels(self) -> Array:
        """Return the classes of all samples, int32 [n]."""
        return np.concatenate([labels[sidecar["label"]] for _, sidecar, labels in self._all()])

    def key(self, index: int) -> str:
        """Return the key of a sample, which may hold bytes that are no UTF-8."""
        shard, at = self._place(index)
        return self._sidecar(shard)[0].key(at)

    def fault(self, index: int) -> str:
        """Say what is wrong with a sample; '' where nothing is known to be."""
        shard, at = self._place(index)
        sidecar, labels = self._sidecar(shard)
        fault = sidecar.faults.get(at, "")
        return fault or (BAD_LABEL if self._classes.names and labels[sidecar["label"][at]] == NO_LABEL else "")

    def faults(self) -> list[tuple[int, str]]:
        """List the numbers and faults of all bad samples, by their numbers."""
        found = []
        for start, sidecar, labels in self._all():
            own = dict(sidecar.faults)
            if self._classes.names:
                for row in np.flatnonzero(labels[sidecar["label"]] == NO_LABEL).tolist():
                    own.setdefault(row, BAD_LABEL)
            found += [(start + row, fault) for row, fault in sorted(own.items())]
        return found

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return the digests of samples, 16 bytes each, zeros for bad ones; None where they are not known."""
        shards = np.searchsorted(np.asarray(self._starts), indices, side="right") - 1
        found = np.empty((len(indices), DIGEST_BYTES), dtype=np.uint8)
        for shard in np.unique(shards).tolist():
            sidecar, labels = self._sidecar(shard)
            if "digest" not in sidecar or self.changed(shard):
                return None
            rows = np.flatnonzero(shards == shard)
            at = indices[rows] - self._starts[shard]
            if "outside" in sidecar and np.isin(at, sidecar["outside"]).any():
                return None  # of files that no sidecar belongs to
            found[rows] = sidecar["digest"][at]
            bad = np.isin(at, list(sidecar.faults))
            if self._classes.names:
                bad |= labels[sidecar["label"][at]] == NO_LABEL
            found[rows[bad]] = 0
        return found.tobytes()

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return the number of each sample that a hold-out of this seed compares; None where they are not known."""
        if seed != 0:
            return None
        return np.concatenate([sidecar["hold_out"] for _, sidecar, _ in self._all()])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sidecars": {}}

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of a sample, and its row there."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def _all(self) -> Iterator[tuple[int, Sidecar, Array]]:
        for shard, start in enumerate(self._starts):
            yield start, *self._sidecar(shard)

    def _sidecar(self, shard: int) -> tuple[Sidecar, Array]:
        """A mapped sidecar, and the class of each of its labels, the last one for no label."""
        known = self._sidecars.get(shard)
        if known is None:
            if len(self._sidecars) >= _MOST_MAPPED:
                self._sidecars.clear()
            sidecar = self._read_sidecar(shard)
            index_of = [self._classes.index_of.get(label, NO_LABEL) for label in sidecar.labels]
            known = self._sidecars[shard] = (sidecar, np.array([*index_of, NO_LABEL], dtype=np.int32))
        return known

    def _require_fit(self, shard: int, sidecar: Sidecar) -> None:
        """Raise DataError where a sidecar is of another state than the table."""
        if not self._fits(shard, sidecar):
            raise DataError(f"{sidecar.path} is newer than its table", fix="ldm data index, with the path of the shards")

    def _fits(self, shard: int, sidecar: Sidecar) -> bool:
        return bool(sidecar.stamp == self.table.stamps[shard] and sidecar.samples == self.table.sizes[shard])
