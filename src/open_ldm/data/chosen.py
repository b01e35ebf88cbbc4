"""Some of the numbers below n, in increasing order, kept in as little memory as they need.

Where more are chosen than left out, those left out are kept: number i of the chosen is then i plus how many of them come
before it. So the training part of ten million samples, of which a twentieth is held out, takes 2 MB in place of 76.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from open_ldm.data.permutation import Indices


class Chosen:
    """Chosen numbers; `chosen[i]` takes one index, or an array of them.

    Args:
        numbers: Those that are chosen, increasing.
        below: How many there are to choose from.
    """

    def __init__(self, numbers: Indices, below: int) -> None:
        self._length, self._kept, self._before = len(numbers), numbers, None
        if 2 * len(numbers) > below:
            without = np.ones(below, dtype=np.bool_)
            without[numbers] = False
            left_out = np.flatnonzero(without)
            # Number i has as many of them before it as have at most i chosen numbers before themselves.
            self._before = _small(left_out - np.arange(len(left_out)), below)
            self._kept = left_out
        self._kept = _small(self._kept, below)

    def __len__(self) -> int:
        return self._length

    def at(self, index: int) -> int:
        """Return one of the chosen numbers. Raises IndexError."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        return int(self._kept[index]) if self._before is None else index + bisect_right(self._before, index)

    def __getitem__(self, indices: Indices) -> Indices:
        """Return the chosen numbers at an array of indices, int64."""
        if self._before is None:
            return self._kept[indices].astype(np.int64)
        return indices + np.searchsorted(self._before, indices, side="right")

    def counts(self, sizes: Indices) -> Indices:
        """Return how many of each of several blocks of these sizes, which together have all numbers, are chosen, int64."""
        ends = np.concatenate([[0], sizes.cumsum()])
        kept = np.diff(np.searchsorted(self._kept, ends))
        return kept if self._before is None else sizes - kept


def _small(numbers: Indices, below: int) -> np.ndarray[Any, np.dtype[Any]]:
    return numbers.astype(np.int32 if below < 2**31 else np.int64)
