"""The columns section: values of columns of metadata that controls read, one named tensor of its own dtype for each column.

A column of numbers is float64, NaN where missing. A column of words is int32, indices into the words that the section's plan
lists, -1 where missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from open_ldm.data.columns import Column, Columns, Value, columns_of
from open_ldm.data.sample import Source
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.mapped import Array
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent

ROWS_PER_SHARD = 1 << 16
_PREFIX = "column."


def columns_plan(pictures: str, columns: Columns, names: Sequence[str], length: int) -> SectionPlan:
    """Describe the section of columns `names` of all pictures, whose index has the hash `pictures`."""
    stored = {name: _kind(columns[name]) for name in sorted(names)}
    return SectionPlan("columns", {"pictures": pictures, "columns": stored}, length)


def _kind(column: Column) -> dict[str, Any]:
    return {"dtype": str(column.values.dtype), "words": list(column.words), "values": column.hash}


class ColumnsMaker:
    """Makes the shards of a columns section from the source's metadata; no picture is read."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self.source, self.names = source, tuple(sorted(names))

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Make one shard after the other."""
        for shard in shards:
            rows = section.rows_of(shard)
            with work.during("metadata"):
                content = ShardContent(self.encode(rows))
            work.progressed(len(rows))
            yield shard, content

    def encode(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Encode the values of samples as they are stored: one tensor [rows] for each column."""
        columns, chosen = columns_of(self.source), np.array(rows, dtype=np.int64)
        return {f"{_PREFIX}{name}": torch.from_numpy(columns[name].values[chosen]) for name in self.names}


def read_columns(arrays: Mapping[str, Array], row: int, made_from: Mapping[str, Any]) -> dict[str, Value]:
    """Read the values of a row by their names; `made_from` is that of the section's plan."""
    stored = made_from["columns"]
    return {name: Column(name, arrays[f"{_PREFIX}{name}"], stored[name]["words"]).at(row) for name in stored}
