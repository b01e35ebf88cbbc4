"""Which sample comes at which position of the endless training order: a pure function, with no state to save.

A new permutation for each epoch, by a Feistel network on the numbers below the next power of four with cycle walking
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): O(1) memory and time for any length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from open_ldm.core.seeds import key

FIXED_VIEWS_SEED = 0
"""Fixed views do not depend on the seed of a training: runs of other seeds find the same ones, and share a cache."""

_ROUNDS = 6
_MASK_64 = (1 << 64) - 1


def sample_at(seed: int, position: int, length: int) -> int:
    """Index below `length` of the sample at `position` >= 0; every index occurs exactly once in each epoch.

    sample_at = permutation[epoch](i) with (epoch, i) = divmod(position, length).
    """
    if length < 1 or position < 0:
        raise ValueError(f"no sample at position {position} of {length}")
    epoch, index = divmod(position, length)
    keys = _round_keys(seed, epoch)
    half_bits = max(1, ((length - 1).bit_length() + 1) // 2)
    # The network permutes 0..4**half_bits - 1; walking its cycle until back below `length` permutes 0..length - 1.
    index = _feistel(index, half_bits, keys)
    while index >= length:
        index = _feistel(index, half_bits, keys)
    return index


def first_indices(seed: int, count: int, length: int) -> list[int]:
    """Indices of the first `count` samples of the order, or of all `length` where there are fewer; each once."""
    return [sample_at(seed, position, length) for position in range(min(count, length))]


@dataclass(frozen=True)
class ViewPlace:
    """Which view stands at a position: of which sample (`index`), its number among the sample's fixed views (`view`, None
    for one made for this position alone), and (`seed`, `number`), which key every draw that makes it."""

    index: int
    view: int | None
    seed: int
    number: int


def view_at(seed: int, position: int, length: int, views: int | None) -> ViewPlace:
    """The view at `position` of `length` samples: a fresh one, or with `views` number (epoch mod views) of as many."""
    index = sample_at(seed, position, length)
    if views is None:
        return ViewPlace(index, None, seed, position)
    return fixed_view(index, position // length % views, length)


def fixed_view(index: int, view: int, length: int) -> ViewPlace:
    """Fixed view number `view` of a sample. With more views the first ones stay what they were."""
    return ViewPlace(index, view, FIXED_VIEWS_SEED, view * length + index)


def reserve_at(seed: int, position: int, attempt: int, length: int) -> int:
    """Index of the `attempt`-th (from 0) replacement for a bad sample at `position`; other positions do not shift."""
    return key(seed, f"reserve{attempt}", position) % length


@lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(key(seed, f"order{number}", epoch) for number in range(_ROUNDS))


def _feistel(value: int, half_bits: int, keys: tuple[int, ...]) -> int:
    mask = (1 << half_bits) - 1
    left, right = value >> half_bits, value & mask
    for round_key in keys:
        # Two multiply-and-fold steps spread every bit of key and half over the low bits that are kept.
        mixed = ((right ^ round_key) * 0x9E3779B97F4A7C15) & _MASK_64
        mixed = ((mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93) & _MASK_64
        left, right = right, left ^ ((mixed ^ (mixed >> 32)) & mask)
    return (left << half_bits) | right
