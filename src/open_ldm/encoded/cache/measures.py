"""The measures section: what controls read of whole pictures, one named column for each measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from open_ldm.data.measures import RULES, Measure, measure
from open_ldm.data.sample import UNKNOWN, BadPicture, Source, unreadable
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent
from open_ldm.sources.workers import read_ahead

ROWS_PER_SHARD = 1 << 12


def measures_plan(pictures: str, length: int, measures: Sequence[Measure]) -> SectionPlan:
    """Describe the section of these measures of all pictures, whose content has the hash `pictures`."""
    return SectionPlan("measures", {"pictures": pictures, "measures": {name: RULES[name] for name in measures}}, length)


class MeasuresMaker:
    """Makes the shards of a measures section; `workers` processes read pictures."""

    def __init__(self, source: Source, measures: Sequence[Measure], workers: int) -> None:
        self.source, self.measures, self.workers = source, tuple(measures), workers

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Read and measure the pictures of shards; those of following shards are read meanwhile."""
        size = section.batch_size
        rows = (section.rows_of(shard) for shard in shards)
        ranges = (part[at : at + size] for part in rows for at in range(0, len(part), size))
        tables = read_ahead(partial(_measured, self.source, self.measures), ranges, self.workers)
        collected: list[_Table] = []
        while True:
            with work.during("measuring"):
                table = next(tables, None)
            if table is None:
                return
            work.check_stop()
            work.progressed(len(table.rows))
            collected.append(table)
            shard = table.rows[-1] // section.rows_per_shard
            if table.rows[-1] == section.rows_of(shard)[-1]:
                yield shard, ShardContent(_columns(self.measures, np.concatenate([each.values for each in collected])))
                collected = []

    def encode(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Measure pictures as they are stored: float32 [rows] of each name, NaN where unknown and for bad pictures."""
        return _columns(self.measures, _measured(self.source, self.measures, rows).values)


@dataclass(frozen=True)
class _Table:
    """Measures of some rows: `values` float32 [rows, measures]."""

    rows: Sequence[int]
    values: np.ndarray[Any, np.dtype[np.float32]]


def _measured(source: Source, measures: Sequence[Measure], rows: Sequence[int]) -> _Table:
    values = np.full((len(rows), len(measures)), UNKNOWN, dtype=np.float32)
    for place, row in enumerate(rows):
        try:
            found = measure(source[row], measures)
        except BadPicture as verdict:  # no view is made of it, so its row is never read
            if verdict.of_disk:
                raise unreadable(source.sample_id(row), verdict) from verdict
            continue
        values[place] = [found[name] for name in measures]
    return _Table(rows, values)


def _columns(measures: Sequence[Measure], values: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values[:, column].copy()) for column, name in enumerate(measures)}
