"""Averages by a power of the update's number, of which any length can be had after training (Karras et al. 2024,
arXiv 2312.02696, section 3).

With theta_n the weights after update n, such an average after update N is

    sum over n of (n^(p + 1) - (n - 1)^(p + 1)) / N^(p + 1) theta_n,

a power of the relative age, whatever N is (their equation 1 with weights that change in steps). Its length is the standard
deviation of that age, a share of the training (equation 3):

    length = sqrt((p + 1) / ((p + 2)^2 (p + 3))).

Snapshots of two averages hold enough of the course of the weights to make a third one: the combination whose shares of all
theta_n are nearest to those wanted, by least squares (section 3.2). Here the shares are those of the sums above, so that
nothing but rounding is lost where every update has a snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 12**-0.5
"""Length of the plain mean of all weights (power 0), 0.289 of the training; longer ones would prefer the oldest."""

_Numbers = NDArray[np.float64]


def power_of(length: float) -> float:
    """Return the power p >= 0 of averages of a length in (0, `LONGEST`].

    It is the largest real root of length^2 (p + 2)^2 (p + 3) = p + 1.
    """
    square = length**2
    roots = np.roots([square, 7 * square, 16 * square - 1, 12 * square - 1])
    return max(0.0, float(max(root.real for root in roots if abs(root.imag) < 1e-6 * (1 + abs(root)))))


def step_towards(power: float, update: int) -> float:
    """Return by which share an average moves to the weights after update number `update`, of which the first is 1.

    That is 1 - (1 - 1 / n)^(p + 1) (equation 2), which is 1 at the first update.
    """
    return 1.0 if update == 1 else -math.expm1((power + 1) * math.log1p(-1 / update))


@dataclass(frozen=True)
class Average:
    """An average of power `power` after update number `updates`."""

    power: float
    updates: int


@dataclass(frozen=True)
class Combination:
    """Averages that together are nearest to another one.

    Attributes:
        factors: Of each average.
        error: Norm of the difference of all shares over the norm of those wanted; 0 is exact.
    """

    factors: tuple[float, ...]
    error: float


def combine_averages(kept: Sequence[Average], wanted: Average) -> Combination:
    """Find the combination of averages that is nearest to another one, by least squares over the shares of all updates.

    Args:
        kept: What there is, none of more updates than `wanted`.
        wanted: What is made of it.

    Returns:
        The combination; of several that are equally near, the one with the smallest factors.
    """
    ends = sorted({each.updates for each in (*kept, wanted)})
    powers = sorted({each.power for each in (*kept, wanted)})
    columns = [*kept, wanted]
    rows: list[_Numbers] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        corner = _corner(powers, begin, end)
        scale = np.array([(end / each.updates) ** (each.power + 1) if each.updates >= end else 0.0 for each in columns])
        rows.append(corner[:, [powers.index(each.power) for each in columns]] * scale)
    shares = np.concatenate(rows)
    target = shares[:, -1]
    factors = np.linalg.lstsq(shares[:, :-1], target, rcond=1e-13)[0]
    error = np.linalg.norm(shares[:, :-1] @ factors - target) / np.linalg.norm(target)
    return Combination(tuple(map(float, factors)), float(error))


def _corner(powers: Sequence[float], begin: int, end: int) -> _Numbers:
    """A small matrix with the products of the shares of updates begin + 1 to end, one column for each power, at update `end`.

    Between two snapshots the shares of every average are a multiple of those of its power, so that a matrix of as many rows as
    there are powers stands for all updates in between; found in parts, as a long training has many.
    """
    corner: _Numbers = np.zeros((0, len(powers)))
    for start in range(begin, end, _PART):
        numbers = np.arange(start + 1, min(start + _PART, end) + 1, dtype=np.float64)
        shares = np.stack([_shares(power, numbers, end) for power in powers], axis=1)
        corner = np.asarray(np.linalg.qr(np.concatenate([corner, shares])).R)
    return corner


_PART = 1 << 16


def _shares(power: float, numbers: _Numbers, updates: int) -> _Numbers:
    """The shares of the weights after some updates in an average after update number `updates`."""
    with np.errstate(divide="ignore"):
        steps = -np.expm1((power + 1) * np.log1p(-1 / numbers))
    shares: _Numbers = steps * (numbers / updates) ** (power + 1)
    return shares


def snapshots_kept(numbers: Iterable[int], most: int) -> set[int]:
    """Choose which snapshots stay, by their numbers: those at multiples of 2^k, for the smallest k that leaves at most `most`.

    The choice depends on the largest number alone, so that a run that was interrupted keeps the same ones.
    """
    every, all_of_them = 1, sorted(numbers)
    while all_of_them and all_of_them[-1] // every > most:
        every *= 2
    return {number for number in all_of_them if number % every == 0}
