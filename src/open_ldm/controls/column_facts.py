"""What a model records of a column of metadata when it is built, so that a value means the same ever after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ColumnFacts:
    """Statistics of a column over the training pictures.

    Attributes:
        name: The column.
        pictures: Number of training pictures.
        missing: Number of those for which the control is dropped.
        words: The categories in the order of their vectors; empty for a column of numbers.
        usual: The most frequent category.
        scale: How numbers are read, linear or log; None for categories.
        mean: Mean of the numbers, of their natural logarithms under `scale: log`.
        std: Standard deviation, likewise.
        smallest: The smallest number.
        median: The median.
        largest: The largest number.
    """

    name: str
    pictures: int
    missing: int
    words: tuple[str, ...] = ()
    usual: str | None = None
    scale: str | None = None
    mean: float | None = None
    std: float | None = None
    smallest: float | None = None
    median: float | None = None
    largest: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without what is None or empty."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ColumnFacts:
        """Read what `to_json` returned. Raises TypeError for anything else."""
        return cls(**{**content, "words": tuple(content.get("words", ()))})
