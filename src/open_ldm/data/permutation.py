"""Permutations of 0..n - 1 that are computed, not stored, one number at a time or all at once, and backwards.

An alternating Feistel network on the numbers below the next power of two, with cycle walking (Black and Rogaway, "Ciphers with
Arbitrary Finite Domains", 2002). It is not the network of the global order (order.py), which begun runs keep.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]

_ROUNDS = 6
_MASK_64 = (1 << 64) - 1
_FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


@dataclass(frozen=True)
class Permutation:
    """A permutation of 0..length - 1.

    Attributes:
        length: How many numbers are permuted.
        keys: Numbers below 2**64, one for each round of the network.
    """

    length: int
    keys: tuple[int, ...]

    @classmethod
    def keyed(cls, length: int, name: str) -> Permutation:
        """Return the permutation of so many numbers that a name stands for."""
        drawn = hashlib.blake2b(name.encode(), digest_size=8 * _ROUNDS).digest()
        return cls(length, tuple(int.from_bytes(drawn[at : at + 8], "little") for at in range(0, len(drawn), 8)))

    def at(self, index: int) -> int:
        """Compute where a number goes."""
        low_bits, low_mask, high_mask = self._shape
        while True:
            high, low = index >> low_bits, index & low_mask
            for first, second in self._pairs:  # `_mixed` written out: a training calls this for every sample
                value = ((low ^ first) * _FIRST) & _MASK_64
                value = ((value ^ (value >> 32)) * _SECOND) & _MASK_64
                high ^= (value ^ (value >> 32)) & high_mask
                value = ((high ^ second) * _FIRST) & _MASK_64
                value = ((value ^ (value >> 32)) * _SECOND) & _MASK_64
                low ^= (value ^ (value >> 32)) & low_mask
            index = (high << low_bits) | low
            if index < self.length:
                return index

    def inverse(self, value: int) -> int:
        """Compute what goes to a number."""
        low_bits, low_mask, high_mask = self._shape
        while True:
            high, low = value >> low_bits, value & low_mask
            for first, second in self._pairs[::-1]:
                low ^= _mixed(high ^ second) & low_mask
                high ^= _mixed(low ^ first) & high_mask
            value = (high << low_bits) | low
            if value < self.length:
                return value

    def all(self) -> Indices:
        """Compute where every number goes, int64 [length]."""
        values = self._through(np.arange(self.length, dtype=np.uint64))
        while (outside := np.flatnonzero(values >= self.length)).size:
            values[outside] = self._through(values[outside])
        return values.astype(np.int64)

    def _through(self, values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        low_bits, low_mask, high_mask = map(np.uint64, self._shape)
        high, low = values >> low_bits, values & low_mask
        for first, second in self._pairs:
            high ^= _mixed_all(low ^ np.uint64(first)) & high_mask
            low ^= _mixed_all(high ^ np.uint64(second)) & low_mask
        return (high << low_bits) | low

    @cached_property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        """The keys of the rounds that change the high half, and the low half after it."""
        return tuple(zip(self.keys[::2], self.keys[1::2], strict=True))

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """Bits of the low half, and the masks of both halves."""
        bits = (self.length - 1).bit_length()
        low_bits = (bits + 1) // 2
        return low_bits, (1 << low_bits) - 1, (1 << (bits - low_bits)) - 1


def _mixed(value: int) -> int:
    """Two multiply-and-fold steps, which spread every bit over the low ones that are kept."""
    value = (value * _FIRST) & _MASK_64
    value = ((value ^ (value >> 32)) * _SECOND) & _MASK_64
    return value ^ (value >> 32)


def _mixed_all(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    fold = np.uint64(32)
    values = values * np.uint64(_FIRST)
    values = (values ^ (values >> fold)) * np.uint64(_SECOND)
    return values ^ (values >> fold)
