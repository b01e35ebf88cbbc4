"""What of a series is shown: smoothing, thinning, gaps, ranges of axes, and curves that hide one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["linear", "log"]
Values = NDArray[np.float64]

_MOST_POINTS = 900
_SAME_PX = 1.5
_SAME_SHARE = 0.9
_SAMPLES = 257


def smoothed(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Running mean over about `share` of the points to either side; values that are not finite are passed over.

    An exponential mean forwards and then backwards, so the curve does not lag behind a falling loss.

    Args:
        values: one number per point, in the order of x.
        share: part of all points in (0, 1] that the mean reaches to either side.

    Returns:
        As many numbers as there are values; NaN only where no value to either side is finite.
    """
    keep = 1 - 1 / max(1.0, share * len(values))
    return _exponential_mean(_exponential_mean(values, keep)[::-1], keep)[::-1]


def _exponential_mean(values: Sequence[float], keep: float) -> list[float]:
    total = weight = 0.0
    result: list[float] = []
    for value in values:
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        result.append(total / weight if weight else math.nan)
    return result


def drawable(values: Sequence[float] | Values, axis: Axis) -> Values:
    """The values as float64, with NaN for those that have no place on the axis: not finite, or not positive on a log axis."""
    found = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(found) & ((axis == "linear") | (found > 0)), found, np.nan)


def thinned(values: Values) -> NDArray[np.intp]:
    """Indices to draw: all, or the lowest and highest point of each bucket, so that spikes and gaps stay.

    Args:
        values: y values [points]; a gap is NaN.

    Returns:
        Ascending indices, at most about 900 of them, the first and the last among them.
    """
    count = len(values)
    if count <= _MOST_POINTS:
        return np.arange(count)
    size = math.ceil(2 * count / _MOST_POINTS)
    buckets = np.full((math.ceil(count / size), size), np.nan)
    buckets.flat[:count] = values
    gaps = np.isnan(buckets)
    lowest, highest = (np.where(gaps, beyond, buckets) for beyond in (np.inf, -np.inf))  # an empty bucket gives its first
    inside = np.concatenate([lowest.argmin(axis=1), highest.argmax(axis=1)]).reshape(2, -1) + size * np.arange(len(buckets))
    return np.unique(np.concatenate([[0], inside.ravel(), [count - 1]]))


def lone(values: Values) -> NDArray[np.bool_]:
    """Which points have a gap or an end on both sides, so that no line goes through them; [points] -> [points]."""
    gap = np.isnan(np.concatenate([[np.nan], values, [np.nan]]))
    return np.asarray(~gap[1:-1] & gap[:-2] & gap[2:])


def typical(values: Values) -> Values:
    """The finite values without the lowest and the highest hundredth: a spike does not flatten the rest."""
    finite = np.sort(values[np.isfinite(values)])
    cut = len(finite) // 100
    return finite[cut : len(finite) - cut]


def limits(values: Values, axis: Axis, *, zero: bool = False, padded: bool = False) -> tuple[float, float] | None:
    """Lowest and highest value of an axis that holds all finite `values`, or None when there are none.

    A single value gets room around it, so that the range is never empty.

    Args:
        values: numbers of any shape, positive where the axis is logarithmic.
        axis: whether distances on the axis are differences or ratios.
        zero: puts 0 on a linear axis.
        padded: leaves a twentieth of the range free at both ends, but none beyond a zero that was asked for.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    if zero and axis == "linear":
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        spread = abs(high) / 2 or 1.0
        low, high = (low - spread, high + spread) if axis == "linear" else (low / 2, high * 2)
    if padded and axis == "log":
        factor = (high / low) ** 0.05
        low, high = low / factor, high * factor
    elif padded:
        pad = 0.05 * (high - low)
        low, high = low - (pad if not zero or low < 0 else 0), high + (pad if not zero or high > 0 else 0)
    return low, high


def coincident(curves: Sequence[tuple[Values, Values]]) -> list[tuple[int, int]]:
    """For every curve its number among the curves that lie on one another, and how many those are: (0, 1) for one alone.

    Two curves count as one line where they are less than 1.5 px apart over nine tenths of the x that both have.

    Args:
        curves: x and y of each curve in px, [points] each, x ascending, NaN for gaps.
    """
    groups: list[list[int]] = []
    for number, curve in enumerate(curves):
        group = next((group for group in groups if _coincide(curves[group[0]], curve)), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    found = {number: (place, len(group)) for group in groups for place, number in enumerate(group)}
    return [found[number] for number in range(len(curves))]


def _coincide(one: tuple[Values, Values], other: tuple[Values, Values]) -> bool:
    (x, y), (x_other, y_other) = ((x[~np.isnan(y)], y[~np.isnan(y)]) for x, y in (one, other))
    if not len(x) or not len(x_other):
        return False
    begin, end = max(x.min(), x_other.min()), min(x.max(), x_other.max())
    if end < begin or end - begin < 0.5 * min(np.ptp(x), np.ptp(x_other)):
        return False
    at = np.linspace(begin, end, _SAMPLES)
    apart = np.abs(np.interp(at, x, y) - np.interp(at, x_other, y_other))
    return bool(np.mean(apart < _SAME_PX) >= _SAME_SHARE)
