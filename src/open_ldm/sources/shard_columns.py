"""Columns of metadata in shards: the values of KEY.json, read when a column is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.core.errors import DataError
from open_ldm.core.plain_data import parse_json
from open_ldm.data.columns import Column, Columns, build_column, flat
from open_ldm.data.sample import BadPicture
from open_ldm.sources.metadata import ROLES
from open_ldm.sources.shard_index import ShardRules

_NOT_COLUMNS = ("file_name", "text")


def columns_in(read: Callable[[int], bytes], samples: int, found: Sequence[str], rules: ShardRules) -> Columns:
    """Return the columns of shards, none of which is read yet.

    Args:
        read: Reads KEY.json of a sample, empty where there is none.
        samples: Number of samples.
        found: Names of the values in their .json members.
        rules: Which names are labels, captions and sizes.
    """
    left_out = {rules.column(role) for role in _NOT_COLUMNS}
    names = [name for name in found if name not in left_out]
    return Columns(names, _JsonMembers(read, samples), [rules.column(role) for role in ROLES])


@dataclass(frozen=True)
class _JsonMembers:
    """Reads columns in one pass over the .json members of so many samples."""

    read: Callable[[int], bytes]
    samples: int

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        values: dict[str, list[Any]] = {name: [] for name in names}
        for index in range(self.samples):
            content = self._content(index)
            for name, column in values.items():
                column.append(content.get(name))
        return {name: build_column(name, column) for name, column in values.items()}

    def _content(self, index: int) -> Mapping[str, Any]:
        """Return the values of a sample; none for a sample without a .json that can be read, which counts as bad."""
        try:
            if not (stored := self.read(index)):
                return {}
            content = parse_json(stored, finite=False)
        except (ValueError, RecursionError):
            return {}
        except BadPicture as verdict:
            raise DataError(f"metadata cannot be read now ({verdict})", fix="check the disk and its permissions") from verdict
        return flat(content) if isinstance(content, dict) else {}
