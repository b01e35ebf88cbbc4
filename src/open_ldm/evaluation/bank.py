"""Feature vectors of single pictures, in an order that only the pictures decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


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

    def take(self, indices: Tensor) -> Rows:
        """Return the rows at `indices` [m], in that order."""
        return Rows(
            self.keys[indices],
            self.numbers[indices],
            self.vectors[indices],
            None if self.probabilities is None else self.probabilities[indices],
            None if self.scores is None else self.scores[indices],
        )


def joined(parts: Sequence[Rows]) -> Rows:
    """Return all rows of all parts; a column that a part lacks is left out."""

    def maybe(columns: Sequence[Tensor | None]) -> Tensor | None:
        there = [column for column in columns if column is not None]
        return torch.cat(there) if len(there) == len(parts) else None

    return Rows(
        torch.cat([part.keys for part in parts]),
        torch.cat([part.numbers for part in parts]),
        torch.cat([part.vectors for part in parts]),
        maybe([part.probabilities for part in parts]),
        maybe([part.scores for part in parts]),
    )


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
        """Return the rows that are kept, sorted by key. At least one row must have been added."""
        together = joined(self._waiting)
        by_number = together.take(torch.argsort(together.numbers, stable=True))  # settles ties between equal pictures
        return by_number.take(torch.argsort(by_number.keys, stable=True)[: self.capacity])
