"""Rows of arrow files that have a table: files and their sidecars are mapped when something in them is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.core.extras import need
from open_ldm.core.plain_data import plain
from open_ldm.sources.arrow_sidecar import ArrowRules, read_arrow_sidecar
from open_ldm.sources.digests import StoredPicture
from open_ldm.sources.hub_columns import HubColumns, MappedColumn, bytes_in, path_in
from open_ldm.sources.hub_rows import counted_id
from open_ldm.sources.hub_table import HubTable
from open_ldm.sources.mapped_index import MappedIndex
from open_ldm.sources.shard_table import ShardTable
from open_ldm.sources.sidecar import Sidecar, Stamp
from open_ldm.sources.table_rows import Sizes

_AT_ONCE = 1000
_MOST_OPEN = 16_384


class MappedRows(MappedIndex):
    """Rows of arrow files; only the table is in memory. See `TableRows` for what each method does.

    Args:
        opened: The files.
        columns: Which column is what.
        table: Their table.
    """

    def __init__(self, opened: HubTable, columns: HubColumns, table: ShardTable) -> None:
        super().__init__(table)
        self.columns, self.features, self.known = columns, opened.features, table.hashes
        self._shards, self._split = opened.files, opened.split
        self.named = bool(table.also["named"])
        outside = np.array(table.also["outside"], dtype=np.int64)
        self._outside_ends = outside.cumsum()
        self._files: dict[int, _ArrowFile] = {}

    @property
    def without_picture(self) -> int:
        """See `TableRows`."""
        return self.told.without_picture

    @property
    def outside(self) -> int:
        """See `TableRows`."""
        return int(self._outside_ends[-1])

    def sample_id(self, index: int) -> str:
        """See `TableRows`."""
        return self.key(index) if self.named else counted_id(self._split, index)

    def names(self) -> tuple[str, ...] | None:
        """See `TableRows`."""
        if not self.named:
            return None
        return tuple(sidecar.key(row) for _, sidecar, _ in self._all() for row in range(sidecar.samples))

    def size_in_columns(self, index: int) -> tuple[int, int]:
        """See `TableRows`."""
        return self._size("original_size", index) or (0, 0)

    def sizes_in_columns(self) -> Sizes | None:
        """See `TableRows`."""
        if not (self.columns.height and self.columns.width):
            return None
        return np.concatenate([sidecar["original_size"] for _, sidecar, _ in self._all()])

    def known_size(self, index: int, reading: Any) -> tuple[int, int] | None:
        """See `TableRows`."""
        shard, _ = self._place(index)
        return self._size("size", index) if self._sidecar(shard)[0].told["reading"] == plain(reading) else None

    def is_outside(self, index: int) -> bool:
        """See `TableRows`."""
        return bytes_in(self.cell(index, self.columns.picture)) is None

    def path_at(self, index: int) -> str | None:
        """See `TableRows`."""
        return path_in(self.cell(index, self.columns.picture))

    def outside_at(self, number: int) -> int:
        """See `TableRows`."""
        shard = int(np.searchsorted(self._outside_ends, number, side="right"))
        before = int(self._outside_ends[shard - 1]) if shard else 0
        return self._starts[shard] + int(self._sidecar(shard)[0]["outside"][number - before])

    def picture_at(self, index: int) -> bytes:
        """See `TableRows`."""
        content: bytes = bytes_in(self.cell(index, self.columns.picture)).to_pybytes()
        return content

    def stored_at(self, index: int) -> StoredPicture:
        """See `TableRows`."""
        shard, at = self._place(index)
        return StoredPicture(self._shards[shard], at, read=partial(self.picture_at, index), state=self.columns.picture.encode())

    def cell(self, index: int, column: str) -> Any:
        """See `TableRows`. Raises DataError where the arrow file changed since it was indexed."""
        shard, at = self._place(index)
        return self._file(shard).column(column)[at]

    def values_of(self, column: str) -> Iterator[Any]:
        """See `TableRows`. Raises DataError as `cell`."""
        for shard in range(len(self._shards)):
            for chunk in self._open(shard).table.column(column).chunks:
                for start in range(0, len(chunk), _AT_ONCE):
                    yield from chunk.slice(start, _AT_ONCE).to_pylist()

    def changed(self, shard: int) -> bool:
        """Whether an arrow file is not in the state that its sidecar belongs to."""
        try:
            return Stamp.of(self._shards[shard].stat()) != self.table.stamps[shard]
        except OSError:
            return True

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_files": {}}

    def _size(self, column: str, index: int) -> tuple[int, int] | None:
        shard, at = self._place(index)
        sidecar = self._sidecar(shard)[0]
        height, width = sidecar[column][at].tolist() if column in sidecar else (0, 0)
        return (height, width) if height else None

    def _file(self, shard: int) -> _ArrowFile:
        known = self._files.get(shard)
        if known is None:
            if len(self._files) >= _MOST_OPEN:
                self._files.clear()
            known = self._files[shard] = self._open(shard)
        return known

    def _open(self, shard: int) -> _ArrowFile:
        path = self._shards[shard]
        try:
            if self.changed(shard) and path.exists():
                raise DataError(
                    f"arrow file {path} changed since it was indexed", fix="ldm data index, with the recipe that reads it"
                )
            return _ArrowFile(need("datasets.table", extra="data").MemoryMappedTable.from_file(str(path)))
        except DataError:
            raise
        except Exception as error:  # pyarrow's errors have no common base
            raise DataError(f"arrow file {path} cannot be read: {str(error).partition(chr(10))[0]}") from error

    def _read_sidecar(self, shard: int) -> Sidecar:
        rules = ArrowRules(self._split, self.columns, self.named, self._starts[shard])
        try:
            sidecar = read_arrow_sidecar(self._shards[shard], rules)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing", fix="ldm data index, with the path of the set") from error
        self._require_fit(shard, sidecar)
        return sidecar


class _ArrowFile:
    """A mapped arrow file, and those of its columns that were read."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self._columns: dict[str, MappedColumn] = {}

    def column(self, name: str) -> MappedColumn:
        """Return one column."""
        known = self._columns.get(name)
        if known is None:
            known = self._columns[name] = MappedColumn(self.table, name)
        return known
