"""Numbers and names as people read them on an axis, in a legend or in a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

_MOST_DIGITS = 10
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def short_number(value: float, digits: int = 4) -> str:
    """'0', '0.25', '1e-4', '1,500', '20k', '1.5M', '3B': as few letters as a tick has room for.

    Args:
        value: any number.
        digits: significant digits that are kept, at least 1; a number below 0.001 keeps one fewer.
    """
    size = abs(value)
    for limit, unit, letter in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / unit:.{digits}g}{letter}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.{max(0, digits - 2)}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.{max(0, digits - 4)}f}" if size >= 1000 else f"{value:.{digits}g}"


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """A short number for every tick, with as many digits as it takes to tell the ticks apart, and a real minus sign.

    Args:
        ticks: different values, in ascending order. A value that is zero but for rounding counts as 0.
    """
    step = min((high - low for low, high in pairwise(ticks)), default=0.0)
    exact = [0.0 if abs(tick) < 1e-9 * step else tick for tick in ticks]
    labels: list[str] = []
    for digits in range(4, _MOST_DIGITS + 1):
        labels = [short_number(tick, digits) for tick in exact]
        if len(set(labels)) == len(labels):
            break
    return [label.replace("-", "−") for label in labels]


def one_line(text: str) -> str:
    """A caption or a file name as a label: runs of white space as one blank, and � for what XML has no place for."""
    return " ".join(_NOT_IN_XML.sub("\ufffd", text).split())
