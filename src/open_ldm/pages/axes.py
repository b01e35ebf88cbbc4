"""Axes of a plot: values to px, round ticks, short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Axis = Literal["linear", "log"]


@dataclass(frozen=True)
class Scale:
    """Values in [low, high] of an axis -> px in [start, end]."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    def px(self, value: float) -> float:
        """Where `value` lies, in px."""
        position = _transformed(value, self.axis) - _transformed(self.low, self.axis)
        span = _transformed(self.high, self.axis) - _transformed(self.low, self.axis)
        return self.start + position / span * (self.end - self.start)

    def ticks(self, wanted: int) -> list[float]:
        """About `wanted` round values inside the axis."""
        choose = log_ticks if self.axis == "log" else linear_ticks
        chosen = choose(self.low, self.high, wanted)
        return [tick for tick in chosen if self.low <= tick <= self.high]


def scale_of(
    values: Sequence[float], axis: Axis, start: float, end: float, *, zero: bool = False, padded: bool = False
) -> Scale | None:
    """A scale that holds all finite `values`, or None when there are none. `zero` puts 0 on a linear axis; `padded`
    leaves a little room at the ends. A single value gets room around it, so that the range is never empty.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if zero and axis == "linear":
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        spread = abs(high) / 2 or 1.0
        low, high = (low - spread, high + spread) if axis == "linear" else (low / 2, high * 2)
    if padded and axis == "log":
        pad = (high / low) ** 0.05
        low, high = low / pad, high * pad
    elif padded:
        pad = 0.05 * (high - low)
        low, high = low - (pad if not zero or low < 0 else 0), high + pad
    return Scale(axis, low, high, start, end)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) that span [low, high]."""
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Powers of ten in [low, high]; below 2.5 decades also 2 and 5 times them; below 0.7, round numbers."""
    decades = math.log10(high / low)
    if decades < 0.7:
        return linear_ticks(low, high, wanted)
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    stride = max(1, round(decades / (2 * wanted)))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, stride)
    return [factor * 10.0**power for power in powers for factor in factors]


def short_number(value: float) -> str:
    """'0', '0.25', '1e-4', '1,500', '20k', '1.5M', '3B': as few letters as a tick has room for."""
    size = abs(value)
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / {'B': 1e9, 'M': 1e6, 'k': 1e3}[letter]:.4g}{letter}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def _transformed(value: float, axis: Axis) -> float:
    return math.log10(value) if axis == "log" else value
