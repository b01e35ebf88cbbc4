"""Pictures that a data set holds twice: byte for byte, or nearly, by a perceptual hash of 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from open_ldm.data.sample import BadPicture, Source

NEAR_BITS = 6
"""Pictures whose hashes differ in at most so many of 64 bits count as nearly equal."""

_SIDE_PX = 32
_BLOCK = 8
_ROWS_AT_ONCE = 512
_LEAST_DEVIATION = 2.0
_MOST_PAIRS = 100_000

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Pair:
    """Two samples, by index, and in how many of 64 bits their hashes differ; `exact`: their files are the same bytes."""

    first: int
    second: int
    bits: int
    exact: bool


@dataclass(frozen=True)
class Duplicates:
    """What was found among `pictures` examined ones.

    Attributes:
        pairs: Pairs, exact ones first, then by how little they differ. Of equal files each is paired with the first.
        pictures: Number of pictures.
        flat: Number of pictures without contrast, which only their bytes can tell apart.
        bad: Number of pictures that cannot be read.
        more: Whether there are further pairs that were not listed.
    """

    pairs: tuple[Pair, ...]
    pictures: int
    flat: int = 0
    bad: int = 0
    more: bool = False

    @property
    def exact(self) -> int:
        """Number of pictures that are a copy of an earlier one."""
        return sum(pair.exact for pair in self.pairs)


def perceptual_hash(pixels: np.ndarray[Any, Any]) -> int | None:
    """Hash what a picture looks like: signs of its 64 lowest frequencies; None without contrast.

    The picture is made grey (the mean of its channels) and 32 x 32 px. Of its discrete cosine transform (type II, orthonormal)
    the 8 x 8 lowest frequencies are kept, and a bit says whether each exceeds their median; the mean of the picture counts as
    not exceeding. Resizing, compression and small changes of brightness flip few bits; mirroring flips about half.

    Args:
        pixels: uint8 or uint16 [H, W, C].
    """
    grey = pixels.astype(np.float32).mean(axis=2) / (1 if pixels.dtype == np.uint8 else 257)
    small = np.asarray(Image.fromarray(grey).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX), np.float64)
    if small.std() < _LEAST_DEVIATION:
        return None
    cosines = _cosines()
    low = (cosines @ small @ cosines.T).ravel()
    bits = low > np.median(low[1:])
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes())


def _cosines() -> np.ndarray[Any, np.dtype[np.float64]]:
    """The first 8 rows of the orthonormal DCT-II of 32 numbers."""
    frequency, position = np.mgrid[0:_BLOCK, 0:_SIDE_PX]
    rows: np.ndarray[Any, np.dtype[np.float64]] = np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE_PX)) * np.sqrt(
        2 / _SIDE_PX
    )
    rows[0] /= np.sqrt(2)
    return rows


def find_duplicates(source: Source, on_pictures: Callable[[int], None] = lambda done: None) -> Duplicates:
    """Compare all pictures of a source: their bytes, and what they look like.

    Every pair is compared, so that the time grows with the square of the number of pictures: about a minute for 100,000.

    Args:
        source: The data set.
        on_pictures: Called with the number of pictures read.
    """
    digests = source.digests(range(len(source)), lambda done: None)
    seen: dict[bytes, int] = {}
    copies: list[Pair] = []
    distinct: list[int] = []
    hashes: list[int] = []
    flat = bad = 0
    for index, digest in enumerate(digests):
        on_pictures(index + 1)
        if isinstance(digest, BadPicture) or not any(digest):
            bad += 1
            continue
        if (first := seen.setdefault(digest, index)) != index:
            copies.append(Pair(first, index, 0, exact=True))
            continue
        try:
            found = perceptual_hash(source[index].pixels)
        except BadPicture:
            bad += 1
            continue
        if found is None:
            flat += 1
        else:
            distinct.append(index)
            hashes.append(found)
    near = near_pairs(np.array(hashes, np.uint64), distinct)
    pairs = [*copies, *sorted(near, key=lambda pair: (pair.bits, pair.first, pair.second))]
    return Duplicates(tuple(pairs[:_MOST_PAIRS]), len(source), flat, bad, more=len(pairs) > _MOST_PAIRS)


def near_pairs(hashes: Hashes, indices: Sequence[int], most_bits: int = NEAR_BITS) -> list[Pair]:
    """Find all pairs of hashes that differ in at most `most_bits` bits.

    Args:
        hashes: One for each of `indices`.
        indices: The samples.
        most_bits: Largest difference.
    """
    found = []
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        rows = hashes[start : start + _ROWS_AT_ONCE]
        differing = _ones(rows[:, None] ^ hashes[None, start:])
        for row, column in zip(*np.nonzero(differing <= most_bits), strict=True):
            if column > row:
                bits = int(differing[row, column])
                found.append(Pair(indices[start + int(row)], indices[start + int(column)], bits, exact=False))
        if len(found) > _MOST_PAIRS:
            break
    return found


def _ones(values: Hashes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Count the bits that are set (numpy 1 has no function for it)."""
    steps = ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F))
    counts = values
    for shift, mask in steps:
        counts = (counts & np.uint64(mask)) + ((counts >> np.uint64(shift)) & np.uint64(mask))
    return ((counts * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
