"""The windowed order: samples are mixed over many shards, while each process reads few of them at a time.

In each epoch e the shards are permuted and laid end to end, which gives n places. The places are cut into S streams of equal
length, and number i of the epoch is number k of stream s, and there the place that a permutation of each W neighbours gives:

    (k, j) = divmod(i, S),   s = j A mod S,   (w, v) = divmod(k, W),   place = start(s) + w W + permutation[e, s, w](v)

A is coprime to S and near 0.618 S, so that neighbours in a batch come from streams far apart. Where R processes share a batch
in strides of R, and R divides S, each meets S / R streams, and in each of them the few shards of one window. So a shard is
opened once and read to its end, where the global order opens one for each sample. Every place comes once an epoch, and the
order is one and the same for any number of processes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import gcd
from typing import Any

import numpy as np

from open_ldm.core.seeds import key
from open_ldm.data.order import ViewKey, fixed_view, reserve_at, reserve_of
from open_ldm.data.permutation import Indices, Permutation
from open_ldm.data.sample import Source

_RESERVES_NEARBY = 8


def shard_sizes(source: Source, window: int) -> Indices:
    """Return how many samples each shard of a source has, int64; one that has no shards counts as blocks of `window`."""
    sizes: Indices | None = getattr(source, "shard_sizes", None)
    if sizes is not None:
        return sizes
    length = len(source)
    return np.diff(np.minimum(np.arange(0, length + window, window, dtype=np.int64), length))


@dataclass(frozen=True, eq=False)
class WindowedOrder:
    """The order of a training by windows; see the module's docstring.

    Attributes:
        seed: The run's seed.
        sizes: Samples of each shard, int64, in the order of the source.
        streams: How many streams are read side by side; of a smaller data set, one for each sample.
        window: Samples of a stream that are permuted together.
        views: Number of fixed views of each sample, used in turn, one an epoch; None for new ones.
    """

    seed: int
    sizes: Indices
    streams: int
    window: int
    views: int | None = None

    def view_at(self, position: int) -> ViewKey:
        """Return the view at a position."""
        epoch, number = divmod(position, self.length)
        index = self.index_at(epoch, number)
        if self.views is None:
            return ViewKey(index, None, self.seed, position)
        return fixed_view(index, epoch % self.views, self.length)

    def reserve_at(self, at: ViewKey, attempt: int) -> int:
        """Return the index of a replacement: for a new view one of the same shard, which is open, before one from anywhere."""
        if at.view is not None:
            return reserve_of(at, attempt, self.length, None)  # as the cache of fixed views has it
        if attempt >= _RESERVES_NEARBY:
            return reserve_at(at.seed, at.number, attempt, self.length)
        shard = bisect_right(self._firsts, at.index) - 1
        return self._firsts[shard] + key(at.seed, f"reserve{attempt}", at.number) % int(self.sizes[shard])

    def index_at(self, epoch: int, number: int) -> int:
        """Return the index of sample `number` of an epoch, from 0 below `length`."""
        count, window = self._count, self.window
        step, arrival = divmod(number, count)
        stream = arrival * self._spread % count
        start = self._starts[stream]
        part, inside = divmod(step, window)
        before = start + part * window
        size = min(window, self._starts[stream + 1] - before)
        place = before + _window(self.seed, epoch, stream, part, size).at(inside)
        laid = _laid_out(self, epoch)
        row = bisect_right(laid.starts, place) - 1
        return self._firsts[laid.shards[row]] + place - laid.starts[row]

    def number_of(self, epoch: int, index: int) -> int:
        """Return which sample of an epoch a sample is, the inverse of `index_at`."""
        laid, shard = _laid_out(self, epoch), bisect_right(self._firsts, index) - 1
        place = laid.starts[int(laid.rows[shard])] + index - self._firsts[shard]
        stream = bisect_right(self._starts, place) - 1
        part, value = divmod(place - self._starts[stream], self.window)
        before = self._starts[stream] + part * self.window
        size = min(self.window, self._starts[stream + 1] - before)
        step = part * self.window + _window(self.seed, epoch, stream, part, size).inverse(value)
        return step * self._count + stream * pow(self._spread, -1, self._count) % self._count

    @cached_property
    def length(self) -> int:
        """Number of samples."""
        return int(self.sizes.sum())

    @cached_property
    def _count(self) -> int:
        return min(self.streams, self.length)

    @cached_property
    def _spread(self) -> int:
        wanted = max(1, round(0.618 * self._count))
        return next(step for step in range(wanted, 2 * wanted + 2) if gcd(step, self._count) == 1)

    @cached_property
    def _starts(self) -> list[int]:
        """First place of each stream, and the number of places: streams that come early in a step take what is left over."""
        least, left = divmod(self.length, self._count)
        streams = np.arange(self._count, dtype=np.int64)
        lengths = np.full(self._count, least, dtype=np.int64)
        lengths[streams[:left] * self._spread % self._count] += 1
        return [0, *lengths.cumsum().tolist()]

    @cached_property
    def _firsts(self) -> Sequence[int]:
        """Index of the first sample of each shard."""
        return _starts_of(self.sizes)


@dataclass(frozen=True)
class _LaidOut:
    """The shards as an epoch lays them end to end: their numbers, the place where each starts, and the row of each shard."""

    shards: Sequence[int]
    starts: Sequence[int]
    rows: np.ndarray[Any, np.dtype[np.int32]]


@lru_cache(maxsize=2)
def _laid_out(order: WindowedOrder, epoch: int) -> _LaidOut:
    shards = Permutation.keyed(len(order.sizes), f"{order.seed}/shards/{epoch}").all()
    rows = np.empty(len(shards), dtype=np.int32)
    rows[shards] = np.arange(len(shards), dtype=np.int32)
    return _LaidOut(array("q", shards.tobytes()), _starts_of(order.sizes[shards]), rows)


def _starts_of(sizes: Indices) -> Sequence[int]:
    return array("q", (sizes.cumsum() - sizes).astype(np.int64).tobytes())


@lru_cache(maxsize=8192)
def _window(seed: int, epoch: int, stream: int, part: int, size: int) -> Permutation:
    return Permutation.keyed(size, f"{seed}/window/{epoch}/{stream}/{part}")
