"""The samples of tar shards that have a table: their sidecars are mapped when something in them is first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.data.sample import printable
from open_ldm.sources.mapped_index import MappedIndex
from open_ldm.sources.shard_index import ShardRules
from open_ldm.sources.shard_rows import ROW
from open_ldm.sources.shard_samples import Digest, Row
from open_ldm.sources.shard_sidecar import NUMBERS, read_sidecar, sidecars_of
from open_ldm.sources.shard_table import ShardTable
from open_ldm.sources.sidecar import Sidecar
from open_ldm.sources.storage import Storage, read_obtained

_ROW_NUMBERS = [name for name in ROW.names or () if name in NUMBERS]


class MappedSamples(MappedIndex):
    """Samples of tar shards that lie in sidecars. See `ShardSamples` for what each method does.

    Args:
        shards: The shards.
        rules: How their members are read.
        table: Their table.
        storage: Where they are.
    """

    json_places = None

    def __init__(self, shards: Sequence[Path], rules: ShardRules, table: ShardTable, storage: Storage) -> None:
        super().__init__(table)
        self._shards, self._rules, self._storage = shards, rules, storage

    def row(self, index: int) -> Row:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar, labels = self._sidecar(shard)
        numbers = (sidecar[name][at].item() for name in _ROW_NUMBERS)
        return Row(shard, labels[sidecar["label"][at]].item(), *numbers)

    def text_place(self, index: int) -> tuple[int, int, bool]:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        return sidecar["text_offset"][at].item(), sidecar["text_size"][at].item(), sidecar["text_is_json"][at].item()

    def text_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        return sidecar.bytes_of("json" if sidecar["text_is_json"][at] else "text", at)

    def json_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        return self._sidecar(shard)[0].bytes_of("json", at)

    def digest_of(self, index: int) -> bytes | None:
        """See `ShardSamples`."""
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        return sidecar["digest"][at].tobytes() if "digest" in sidecar else None

    def bytes_of_shard(self, shard: int) -> int | None:
        """See `ShardSamples`."""
        return self.table.stamps[shard].bytes

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

    def _read_sidecar(self, shard: int) -> Sidecar:
        sidecar = self._obtain_sidecar(shard)
        if self._storage.remote and not self._fits(shard, sidecar):
            self._storage.discard(self._shards[shard])  # both were fetched before they changed there
            sidecar = self._obtain_sidecar(shard, again=True)
        self._require_fit(shard, sidecar)
        return sidecar

    def _obtain_sidecar(self, shard: int, *, again: bool = False) -> Sidecar:
        path, names = self._shards[shard], sidecars_of(self._shards[shard], self._rules)

        def read() -> Sidecar:
            """Map the sidecar of the shard; what came over a network is compared first."""
            try:
                sidecar = read_sidecar(path, self._rules)
            except FileNotFoundError as error:
                raise DataError(f"{error.filename} is missing", fix="ldm data index, with the path of the shards") from error
            if self._storage.remote:
                sidecar.compare()
            return sidecar

        return read_obtained(self._storage, names, read, again=again)


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
