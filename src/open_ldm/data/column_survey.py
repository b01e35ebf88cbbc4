"""A survey of columns of metadata: ranges and counts of those that controls read, and names of those that nothing reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from open_ldm.core.errors import shortened
from open_ldm.data.columns import Column, columns_of
from open_ldm.data.sample import Source

_SHARES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
_NAMED = 8


@dataclass(frozen=True)
class Quantiles:
    """Values below which 0, 5, 25, 50, 75, 95 and 100 % of the samples lie."""

    smallest: float
    q05: float
    q25: float
    median: float
    q75: float
    q95: float
    largest: float


def quantiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> Quantiles:
    """Compute the quantiles of at least one number."""
    return Quantiles(*(round(float(value), 4) for value in np.quantile(values, _SHARES)))


@dataclass(frozen=True)
class ColumnSurvey:
    """One column of all `pictures`.

    Attributes:
        quantiles: Of the numbers; None for a column of words, and where all are missing.
        counts: Pictures by word, the most frequent first; empty for a column of numbers.
        missing: Number of pictures without a value.
        unlisted: Pictures by word, of words that the control does not list.
        pictures: Number of pictures.
    """

    quantiles: Quantiles | None
    counts: Mapping[str, int]
    missing: int
    unlisted: Mapping[str, int]
    pictures: int

    def words(self) -> str:
        """Write what it holds, for a table beside the quantiles of sizes."""
        if self.quantiles is not None:
            return "".join(f"{value:>9.4g}" for value in asdict(self.quantiles).values()) + f"  of {self.pictures:,}"
        counted = shortened([f"{word} {count:,}" for word, count in self.counts.items()], _NAMED)
        return f" {len(self.counts):,} values: {counted}" if self.counts else " no values"

    def problems(self, name: str) -> list[str]:
        """Return warnings about pictures for which the control is dropped."""
        found = []
        if self.missing:
            found.append(f"{name} is missing for {self.missing:,} of {self.pictures:,} pictures")
        if self.unlisted:
            listed = shortened([f"{word} {count:,}" for word, count in self.unlisted.items()], _NAMED)
            count = f"{sum(self.unlisted.values()):,} of {self.pictures:,} pictures"
            found.append(f"{name} has a value that is not listed for {count} ({listed})")
        return [f"{one}: for such ones the control is dropped" for one in found]


def survey_columns(source: Source, wanted: Mapping[str, Sequence[str] | None]) -> dict[str, ColumnSurvey]:
    """Survey columns of a source, all pictures of it.

    Args:
        source: The data set.
        wanted: The columns, each with the words that its control lists, or None; one that is not there is left out.
    """
    columns = columns_of(source)
    there = [name for name in wanted if name in columns]
    columns.prepare(there)
    return {name: _survey(columns[name], wanted[name]) for name in there}


def _survey(column: Column, listed: Sequence[str] | None) -> ColumnSurvey:
    pictures = len(column.values)
    if column.is_numeric and listed is None:
        known = column.values[~np.isnan(column.values)]
        return ColumnSurvey(quantiles(known) if len(known) else None, {}, pictures - len(known), {}, pictures)
    counts = column.counts()
    unlisted = {} if listed is None else {word: count for word, count in counts.items() if word not in listed}
    return ColumnSurvey(None, counts, column.missing, unlisted, pictures)


def unused_columns(names: Iterable[str]) -> str:
    """Write one line that names columns that nothing reads; '' for none."""
    found = list(names)
    if not found:
        return ""
    return f"columns not used: {shortened(found)}; a control {{kind: metadata, column: {found[0]}}} reads one"
