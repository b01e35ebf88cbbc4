"""Charts as plain data: curves, maps and intervals, and the formats of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from open_ldm.pages.curves import Axis

Format = Literal["svg", "pdf", "png"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Series:
    """One curve. Points that are not finite (or not positive on a log axis) break it. `smooth` adds a running mean.

    `band`: two values at each point, lowest and highest, between which the plot is shaded.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    smooth: bool = False
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Mark:
    """A dashed vertical line at `x`; `text` is shown on a page when one points at it."""

    x: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Curves over x. `title` is for screen readers; sizes in px. `from_zero` puts 0 on a linear y axis."""

    title: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    x_axis: Axis = "linear"
    y_axis: Axis = "linear"
    from_zero: bool = False
    width: int = 640
    height: int = 320


@dataclass(frozen=True)
class Cell:
    """The value of one pair of settings."""

    row: str
    column: str
    value: float


@dataclass(frozen=True)
class HeatMap:
    """One number for every pair of two settings, the stronger the larger; a pair without a cell stays empty.

    `axes`: what rows and columns are. Names that are numbers come in their order, before words.
    """

    title: str
    axes: tuple[str, str]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Row:
    """A value with its interval, and a faint dot for each of `seeds`."""

    name: str
    mean: float
    low: float
    high: float
    seeds: Sequence[float] = ()


@dataclass(frozen=True)
class Forest:
    """Values with intervals, one row each, over one axis that `title` names; width in px."""

    title: str
    rows: Sequence[Row]
    width: int = 640


Chart = Plot | HeatMap | Forest
