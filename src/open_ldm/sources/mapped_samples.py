"""The samples of shards that have a table: their sidecars are mapped when something in them is first asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import printable
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, Classes
from open_ldm.sources.shard_index import ShardRules
from open_ldm.sources.shard_rows import ROW
from open_ldm.sources.shard_samples import Digest, Row
from open_ldm.sources.shard_sidecar import NUMBERS, Sidecar, read_sidecar, sidecars_of
from open_ldm.sources.shard_table import ShardTable
from open_ldm.sources.storage import Storage, read_obtained

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_MAPPED = 16_384
"""Linux lets a process map 65,530 files."""
_ROW_NUMBERS = [name for name in ROW.names or () if name in NUMBERS]


class MappedSamples:
    """Samples that lie in sidecars; only the table is in memory. See `ShardSamples` for what each method does.

    Args:
        shards: The shards.
        rules: How their members are read.
        table: Their table.
        storage: Where they are.
    """

    json_places = None

    def __init__(self, shards: Sequence[Path], rules: ShardRules, table: ShardTable, storage: Storage) -> None:
        self._shards, self._rules, self.table, self._storage = shards, rules, table, storage
        self._starts = array("q", (table.sizes.cumsum() - table.sizes).tobytes())
        self._classes = Classes({}, ())
        self._sidecars: dict[int, tuple[Sidecar, Array]] = {}
        self._length = int(table.sizes.sum())
        self.told = table.told

    @property
    def label_counts(self) -> Mapping[int | str | None, int]:
        """See `ShardSamples`."""
        return self.table.label_counts

    def settle(self, classes: Classes) -> None:
        """See `ShardSamples`."""
        self._classes = classes
        self._sidecars.clear()

    @property
    def sizes(self) -> Indices:
        """See `ShardSamples`."""
        return self.table.sizes

    @property
    def captioned(self) -> int:
        """See `ShardSamples`."""
        return int(self.table.captioned.sum())

    def __len__(self) -> int:
        return self._length

    def row(self, index: int) -> Row:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar, labels = self._sidecar(shard)
        numbers = (sidecar[name][at].item() for name in _ROW_NUMBERS)
        return Row(shard, labels[sidecar["label"][at]].item(), *numbers)

    def key(self, index: int) -> str:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        return self._sidecar(shard)[0].key(at)

    def fault(self, index: int) -> str:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar, labels = self._sidecar(shard)
        fault = sidecar.faults.get(at, "")
        return fault or (BAD_LABEL if self._classes.names and labels[sidecar["label"][at]] == NO_LABEL else "")

    def faults(self) -> list[tuple[int, str]]:
        """See `ShardSamples`."""
        found = []
        for start, sidecar, labels in self._all():
            own = dict(sidecar.faults)
            if self._classes.names:
                for row in np.flatnonzero(labels[sidecar["label"]] == NO_LABEL).tolist():
                    own.setdefault(row, BAD_LABEL)
            found += [(start + row, fault) for row, fault in sorted(own.items())]
        return found

    def text_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        return sidecar.bytes_of("json" if sidecar["text_is_json"][at] else "text", at)

    def json_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        return self._sidecar(shard)[0].bytes_of("json", at)

    def digests_of(self, indices: Indices) -> bytes | None:
        """See `ShardSamples`."""
        shards = np.searchsorted(np.asarray(self._starts), indices, side="right") - 1
        found = np.empty((len(indices), 16), dtype=np.uint8)
        for shard in np.unique(shards).tolist():
            sidecar, labels = self._sidecar(shard)
            if "digest" not in sidecar or self.changed(shard):
                return None
            rows = np.flatnonzero(shards == shard)
            at = indices[rows] - self._starts[shard]
            found[rows] = sidecar["digest"][at]
            bad = np.isin(at, list(sidecar.faults))
            if self._classes.names:
                bad |= labels[sidecar["label"][at]] == NO_LABEL
            found[rows[bad]] = 0
        return found.tobytes()

    def digest_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        return sidecar["digest"][at].tobytes() if "digest" in sidecar else None

    def bytes_of_shard(self, shard: int) -> int | None:
        """See `ShardSamples`."""
        return self.table.stamps[shard].bytes

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """See `ShardSamples`."""
        if seed != 0:
            return None
        return np.concatenate([sidecar["hold_out"] for _, sidecar, _ in self._all()])

    def hash_keys(self, digest: Digest) -> None:
        """See `ShardSamples`."""
        first = True
        for _, sidecar, _ in self._all():
            joined = _joined(sidecar)
            if sidecar.samples:
                digest.update(joined if first else b"\0" + joined)
                first = False

    def hash_rows(self, digest: Digest) -> None:
        """See `ShardSamples`."""
        for number, (_, sidecar, labels) in enumerate(self._all()):
            rows = np.zeros(sidecar.samples, dtype=ROW)
            rows["shard"], rows["label"] = number, labels[sidecar["label"]]
            for name in _ROW_NUMBERS:
                rows[name] = sidecar[name]
            digest.update(rows.tobytes())

    def hash_column(self, digest: Digest, name: str) -> None:
        """See `ShardSamples`."""
        for number, (_, sidecar, labels) in enumerate(self._all()):
            values = labels[sidecar["label"]] if name == "label" else None
            values = np.full(sidecar.samples, number, dtype=np.int32) if name == "shard" else values
            digest.update((sidecar[name] if values is None else values).astype(ROW[name]).tobytes())

    def changed(self, shard: int) -> bool:
        """Whether a shard on this machine is not in the state that its sidecar belongs to; of others each picture tells."""
        return not self._storage.remote and self._storage.changed(self._shards[shard], self.table.stamps[shard])

    def require_unchanged(self, shard: int) -> None:
        """Raise DataError for a shard that is there and is not in the state that its sidecar belongs to."""
        if self._shards[shard].exists() and self.changed(shard):
            raise DataError(f"shard {self._shards[shard]} changed since it was indexed", fix="ldm data index, with its path")

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
            if self._storage.remote and not self._fits(shard, sidecar):
                self._storage.discard(self._shards[shard])  # both were fetched before they changed there
                sidecar = self._read_sidecar(shard, again=True)
            if not self._fits(shard, sidecar):
                raise DataError(f"{sidecar.path} is newer than its table", fix="ldm data index, with the path of the shards")
            index_of = [self._classes.index_of.get(label, NO_LABEL) for label in sidecar.labels]
            known = self._sidecars[shard] = (sidecar, np.array([*index_of, NO_LABEL], dtype=np.int32))
        return known

    def _read_sidecar(self, shard: int, *, again: bool = False) -> Sidecar:
        path, names = self._shards[shard], sidecars_of(self._shards[shard], self._rules)

        def read() -> Sidecar:
            try:
                sidecar = read_sidecar(path, self._rules)
            except FileNotFoundError as error:
                raise DataError(f"{error.filename} is missing", fix="ldm data index, with the path of the shards") from error
            if self._storage.remote:
                sidecar.compare()
            return sidecar

        return read_obtained(self._storage, names, read, again=again)

    def _fits(self, shard: int, sidecar: Sidecar) -> bool:
        return bool(sidecar.stamp == self.table.stamps[shard] and sidecar.samples == self.table.sizes[shard])


def _joined(sidecar: Sidecar) -> bytes:
    """The keys of a shard as printable text, with zeros between them."""
    keys, ends = sidecar["keys"], sidecar["keys_end"]
    joined = np.zeros(len(keys) + len(ends), dtype=np.uint8)
    lengths = np.diff(ends, prepend=0)
    joined[np.arange(len(keys)) + np.repeat(np.arange(len(ends)), lengths)] = keys
    stored = joined[:-1].tobytes()
    try:
        return stored.decode().encode()
    except UnicodeDecodeError:
        return "\0".join(printable(key) for key in stored.decode("utf-8", "surrogateescape").split("\0")).encode()
