"""Feature vectors of single pictures, in an order that only the pictures decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

COLUMNS = ("keys", "numbers", "vectors", "probabilities", "scores")


@dataclass(frozen=True)
class Rows:
    """Single pictures: `keys` int64 [n], a hash of the pixels; `numbers` int64 [n], as the caller counts them; `vectors`
    float32 [n, D]; `probabilities` [n, K] and caption `scores` [n] where the extractor gives them."""

    keys: Tensor
    numbers: Tensor
    vectors: Tensor
    probabilities: Tensor | None = None
    scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: Tensor) -> Rows:
        """The rows at `places`."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        return Rows(**{name: None if column is None else column[places] for name, column in columns.items()})


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, which must have the same columns."""
    columns = {}
    for name in COLUMNS:
        found = [getattr(part, name) for part in parts]
        columns[name] = torch.cat(found) if found[0] is not None else None
    return Rows(**columns)


@dataclass
class Bank:
    """Keeps the `capacity` rows of lowest key, sorted by key.

    A key is a hash of the picture, so this is a random sample of the pictures that depends neither on the order in which
    they came nor on which process saw them, and the sorted order is as good as a random one.
    """

    capacity: int
    _waiting: list[Rows] = field(default_factory=list)

    def add(self, rows: Rows) -> None:
        """Take in rows of a batch or of another process."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) > 2 * self.capacity:
            self._waiting = [self.rows()]

    def rows(self) -> Rows:
        """What is kept. There must have been a picture."""
        together = joined(self._waiting)
        by_number = together.take(torch.argsort(together.numbers, stable=True))  # settles ties between equal pictures
        return by_number.take(torch.argsort(by_number.keys, stable=True)[: self.capacity])
