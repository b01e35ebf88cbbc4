"""Feature vectors of single pictures, in an order that only the pictures decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

_COLUMNS_AT_ONCE = 64


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

    @classmethod
    def none(cls, dim: int) -> Rows:
        """No row, of vectors of this length."""
        nothing = torch.zeros(0, dtype=torch.int64)
        return cls(nothing, nothing, torch.zeros(0, dim))

    @property
    def columns(self) -> dict[str, Tensor]:
        """The columns that are there, by name."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: column for name, column in named.items() if column is not None}

    def take(self, indices: Tensor) -> Rows:
        """Return the rows at `indices` [m], in that order."""
        return Rows(**{name: column[indices] for name, column in self.columns.items()})


def joined(parts: Sequence[Rows]) -> Rows:
    """Return all rows of all parts; a column that a part lacks is left out."""
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return Rows(**{name: torch.cat([part.columns[name] for part in parts]) for name in shared})


class Bank:
    """Keeps the `capacity` rows of lowest key, of equal keys those of lowest number.

    A key is a hash of the picture, so this is a random sample of the pictures that depends neither on the order in which
    they came nor on which process saw them, and the sorted order is as good as a random one. Memory is that of the rows that
    are kept: a row that leaves is overwritten, and sorting moves them in place.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: dict[str, Tensor] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Rows) -> None:
        """Take in rows of a batch or of another process."""
        if not len(rows):
            return
        columns = rows.columns
        if not self._kept:  # memory is taken only once it is written
            self._kept = {name: column.new_empty((self.capacity, *column.shape[1:])) for name, column in columns.items()}
        self._kept = {name: column for name, column in self._kept.items() if name in columns}
        free = min(self.capacity - self._count, len(rows))
        if free:
            for name, column in self._kept.items():
                column[self._count : self._count + free] = columns[name][:free]
            self._count += free
        if free < len(rows):
            self._replace(rows.take(torch.arange(free, len(rows))))

    def _replace(self, rows: Rows) -> None:
        """Let rows take the places of those that are kept and come behind them in the order."""
        rows = rows.take((rows.keys <= self._kept["keys"].max()).nonzero().flatten())
        keys = torch.cat([self._kept["keys"], rows.keys])
        numbers = torch.cat([self._kept["numbers"], rows.numbers])
        first = _order(keys, numbers)[: self.capacity]
        stays = torch.zeros(len(keys), dtype=torch.bool)
        stays[first] = True
        places = (~stays[: self.capacity]).nonzero().flatten()
        coming = stays[self.capacity :].nonzero().flatten()
        for name, column in rows.columns.items():
            if name in self._kept:
                self._kept[name][places] = column[coming]

    def rows(self) -> Rows:
        """Return the rows that are kept, sorted, as they are until the next `add`. At least one must have been added."""
        order = _order(self._kept["keys"][: self._count], self._kept["numbers"][: self._count])
        for column in self._kept.values():
            whole = column[: self._count]
            if whole.dim() == 1:
                whole.copy_(whole[order])
                continue
            for start in range(0, whole.shape[1], _COLUMNS_AT_ONCE):
                part = whole[:, start : start + _COLUMNS_AT_ONCE]
                part.copy_(part[order])
        return Rows(**{name: column[: self._count] for name, column in self._kept.items()})

    def up_to(self, key: int) -> Rows:
        """Return the rows whose key is not above `key`, sorted; at least one row must have been added."""
        rows = self.rows()
        count = int(torch.searchsorted(rows.keys, key, right=True))
        return Rows(**{name: column[:count] for name, column in rows.columns.items()})

    def keys(self) -> Tensor:
        """Return the keys that are kept, int64."""
        return self._kept["keys"][: self._count].clone() if self._count else torch.zeros(0, dtype=torch.int64)


def _order(keys: Tensor, numbers: Tensor) -> Tensor:
    return torch.from_numpy(np.lexsort((numbers.numpy(), keys.numpy())))
