"""Round values on an axis, and as many of them as their labels have room for."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from matplotlib.axis import Axis as DrawnAxis
from matplotlib.ticker import FixedFormatter, FixedLocator, Locator, LogLocator, MaxNLocator, NullLocator

from open_ldm.pages.curves import Axis
from open_ldm.pages.labels import tick_labels

_DECIMAL = 5.0
_FEW_DECADES = 10**2.5


def ticks_of(axis: Axis, low: float, high: float, room: float, size: Callable[[str], float]) -> tuple[list[float], list[str]]:
    """Round values in [low, high] with their labels.

    Args:
        axis: a log axis over less than a factor of 5 has the ticks of a linear one; over less than 2.5 decades 1, 2 and 5
            times the powers of ten; otherwise powers of ten alone.
        low, high: ends of the axis, low < high.
        room: length of the axis in px.
        size: how much of that length a label takes, in px, with the distance it keeps.
    """
    ticks: list[float] = []
    labels: list[str] = []
    for bins in range(max(2, round(room / 40)), 0, -1):
        ticks = [tick for tick in _locator(axis, low, high, bins).tick_values(low, high) if low <= tick <= high]
        labels = tick_labels(ticks)
        if len(ticks) < 2 or room / bins >= max(map(size, labels)) <= _distance(axis, low, high, ticks) * room:
            break
    return ticks, labels


def _distance(axis: Axis, low: float, high: float, ticks: list[float]) -> float:
    """Least distance of two ticks as a share of the axis."""
    place = math.log if axis == "log" else float
    places = [(place(tick) - place(low)) / (place(high) - place(low)) for tick in ticks]
    return min(after - before for before, after in pairwise(places))


def _locator(axis: Axis, low: float, high: float, bins: int) -> Locator:
    if axis == "linear" or high / low < _DECIMAL:
        return MaxNLocator(nbins=bins, steps=[1, 2, 5, 10])
    fits = high / low < _FEW_DECADES and bins > 4
    return LogLocator(subs=(1.0, 2.0, 5.0) if fits else (1.0,), numticks=bins + 1)


def set_ticks(axis: DrawnAxis, ticks: list[float], labels: list[str]) -> None:
    """Give an axis these ticks and no others; quicker than matplotlib's `set_ticks`, which builds the labels twice."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(labels))
    axis.set_minor_locator(NullLocator())
