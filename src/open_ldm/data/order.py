"""The order of samples in training: the sample at each position is a pure function, with no state to save.

Each epoch has a new permutation, by a Feistel network on the numbers below the next power of four with cycle walking
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). It takes O(1) memory and time for any length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from open_ldm.core.seeds import key
from open_ldm.data.bucket_shapes import Shape
from open_ldm.data.buckets import Buckets

FIXED_VIEWS_SEED = 0
"""Fixed views do not depend on the seed of a run, so runs with other seeds have the same ones and share a cache."""

_ROUNDS = 6
_MASK_64 = (1 << 64) - 1


def sample_at(seed: int, position: int, length: int) -> int:
    """Compute the index of the sample at a position; every index occurs exactly once in each epoch.

    sample_at = permutation[epoch](i) with (epoch, i) = divmod(position, length).

    Args:
        seed: The run's seed.
        position: Position in the order, >= 0.
        length: Number of samples.

    Returns:
        An index below `length`.

    Raises:
        ValueError: There are no samples, or the position is negative.
    """
    if length < 1 or position < 0:
        raise ValueError(f"no sample at position {position} of {length}")
    epoch, index = divmod(position, length)
    return permuted(seed, epoch, index, length)


def permuted(seed: int, epoch: int, index: int, length: int) -> int:
    """Compute where the permutation of an epoch sends an index below `length`."""
    keys = _round_keys(seed, epoch)
    half_bits = max(1, ((length - 1).bit_length() + 1) // 2)
    # The network permutes 0..4**half_bits - 1; walking its cycle until back below `length` permutes 0..length - 1.
    index = _feistel(index, half_bits, keys)
    while index >= length:
        index = _feistel(index, half_bits, keys)
    return index


def first_indices(seed: int, count: int, length: int) -> list[int]:
    """Return the indices of the first `count` samples of the order, or of all `length` where there are fewer; each once."""
    return [sample_at(seed, position, length) for position in range(min(count, length))]


@dataclass(frozen=True)
class ViewKey:
    """What identifies a view.

    Attributes:
        index: Index of its sample.
        view: Its number among the sample's fixed views; None for a view made for one position alone.
        seed: Together with `number` the key of every random number that makes the view.
        number: See `seed`.
        shape: Its (height, width), where views have several; None for that of the transform.
    """

    index: int
    view: int | None
    seed: int
    number: int
    shape: Shape | None = None


def view_at(seed: int, position: int, length: int, views: int | None) -> ViewKey:
    """Return the view at `position` of `length` samples: a new one, or of `views` fixed ones number (epoch mod views)."""
    index = sample_at(seed, position, length)
    if views is None:
        return ViewKey(index, None, seed, position)
    return fixed_view(index, position // length % views, length)


def fixed_view(index: int, view: int, length: int) -> ViewKey:
    """Return fixed view number `view` of a sample. With more views the first ones stay the same."""
    return ViewKey(index, view, FIXED_VIEWS_SEED, view * length + index)


def reserve_at(seed: int, position: int, attempt: int, length: int) -> int:
    """Return the index of replacement number `attempt` (from 0) for a bad sample at `position`; other positions stay."""
    return key(seed, f"reserve{attempt}", position) % length


class Order(Protocol):
    """Which view there is at each position, a pure function without state."""

    def view_at(self, position: int) -> ViewKey:
        """Return the view at a position."""

    def reserve_at(self, at: ViewKey, attempt: int) -> int:
        """Return the index of replacement number `attempt` (from 0) for a view of a bad sample."""


@dataclass(frozen=True)
class ShuffledOrder:
    """The order of `sample_at`: each sample once an epoch, whatever shape its views have.

    Attributes:
        seed: The run's seed.
        length: Number of samples.
        views: Number of fixed views of each sample, used in turn; None for a new one at every position.
        buckets: The shape of each sample's views; None where all have that of the transform.
    """

    seed: int
    length: int
    views: int | None = None
    buckets: Buckets | None = None

    def view_at(self, position: int) -> ViewKey:
        """Return the view at a position."""
        return shaped(view_at(self.seed, position, self.length, self.views), self.buckets)

    def reserve_at(self, at: ViewKey, attempt: int) -> int:
        """Return the index of a replacement, one of the same shape."""
        return reserve_of(at, attempt, self.length, self.buckets)


@dataclass(frozen=True)
class FixedViews:
    """The fixed views of number `view`, one for each of `length` samples, whose index is the position."""

    view: int
    length: int
    buckets: Buckets | None = None

    def view_at(self, position: int) -> ViewKey:
        """Return the view of the sample with this index."""
        return shaped(fixed_view(position, self.view, self.length), self.buckets)

    def reserve_at(self, at: ViewKey, attempt: int) -> int:
        """Return the index of a replacement, one of the same shape."""
        return reserve_of(at, attempt, self.length, self.buckets)


def shaped(at: ViewKey, buckets: Buckets | None) -> ViewKey:
    """Return the view with the shape that its sample has."""
    return at if buckets is None else replace(at, shape=buckets.shape_of(at.index))


def reserve_of(at: ViewKey, attempt: int, length: int, buckets: Buckets | None) -> int:
    """Return the index of replacement number `attempt` for a view: of all `length` samples, or of those of its shape."""
    if buckets is None:
        return reserve_at(at.seed, at.number, attempt, length)
    members = buckets.members[buckets.numbers[at.index]]
    return int(members[reserve_at(at.seed, at.number, attempt, len(members))])


@lru_cache(maxsize=256)
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
