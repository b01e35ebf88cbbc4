"""Columns of metadata in shards: the values of KEY.json, read when a column is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.core.plain_data import parse_json
from open_ldm.data.columns import Column, Columns, build_column, flat
from open_ldm.data.sample import BadPicture
from open_ldm.sources.metadata import ROLES
from open_ldm.sources.shard_index import MOST_JSON_BYTES, ShardEntry, ShardIndex, ShardRules

_NOT_COLUMNS = ("file_name", "text")


def columns_in(
    read: Callable[[int, int, int], bytes], entries: Sequence[ShardEntry], indices: Sequence[ShardIndex], rules: ShardRules
) -> Columns:
    """Return the columns of shards, none of which is read yet.

    Args:
        read: Reads bytes of a sample's shard: (sample, offset, size).
        entries: The samples.
        indices: Of the shards, with the names of the values in their .json members.
        rules: Which names are labels, captions and sizes.
    """
    left_out = {rules.column(role) for role in _NOT_COLUMNS}
    names = dict.fromkeys(name for index in indices for name in index.names if name not in left_out)
    places = np.array([(entry.json_offset, entry.json_size) for entry in entries], dtype=np.int64)
    return Columns(names, _JsonMembers(read, places), [rules.column(role) for role in ROLES])


@dataclass(frozen=True)
class _JsonMembers:
    """Reads columns in one pass over the .json members at `places` [n, 2], offsets and sizes."""

    read: Callable[[int, int, int], bytes]
    places: np.ndarray[Any, np.dtype[np.int64]]

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        values: dict[str, list[Any]] = {name: [] for name in names}
        for index in range(len(self.places)):
            content = self._content(index)
            for name, column in values.items():
                column.append(content.get(name))
        return {name: build_column(name, column) for name, column in values.items()}

    def _content(self, index: int) -> Mapping[str, Any]:
        """Return the values of a sample; none for a sample without a .json that can be read, which counts as bad."""
        offset, size = self.places[index].tolist()
        if not size:
            return {}
        try:
            content = parse_json(self.read(index, offset, min(size, MOST_JSON_BYTES)), finite=False)
        except (ValueError, RecursionError):
            return {}
        except BadPicture as verdict:
            raise DataError(f"metadata cannot be read now ({verdict})", fix="check the disk and its permissions") from verdict
        return flat(content) if isinstance(content, dict) else {}
