"""Charts as plain data, and their two ways out: into a page, into a file.

matplotlib is imported when the first chart is drawn, and draws by `open_ldm.mplstyle` whatever settings the user has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from markupsafe import Markup

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_bytes
from open_ldm.pages.curves import Axis

Format = Literal["svg", "pdf", "png"]
FORMATS: tuple[Format, ...] = get_args(Format)
_MOST_GROWTH = 1.25


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


def inline(*charts: Chart) -> Markup:
    """The charts, one above the other, as one `<svg>` element to be put into a page.

    It has a viewBox and no fixed size, no id, no reference to anything outside, and follows the page into the dark. It takes
    the width it is given, up to a quarter more than its own. The same charts give the same text.
    """
    from open_ldm.pages.drawing import drawn, written
    from open_ldm.pages.themed_svg import themed

    with drawn(charts, on_paper=False) as figure:
        return Markup(themed(written(figure, "svg"), charts[0].title, _MOST_GROWTH * 72 * figure.get_figwidth()))


def line_plot(plot: Plot) -> Markup:
    """The plot as one `<svg>` element to be put into a page; see `inline`."""
    return inline(plot)


def save_figure(path: Path, *charts: Chart) -> None:
    """Write the charts, one above the other, to a file whose suffix says what it is: .svg, .pdf or .png (300 dpi).

    The same charts give the same bytes. An SVG file is drawn on a white ground, and on a dark one where the viewer prefers it.

    Raises:
        ConfigError: for another suffix.
        DiskError: when the disk refuses.
    """
    from open_ldm.pages.drawing import drawn, written
    from open_ldm.pages.themed_svg import themed

    kind = format_of(path.suffix.removeprefix("."))
    with drawn(charts, on_paper=True) as figure:
        content = written(figure, kind)
    write_bytes(path, f"{themed(content, charts[0].title)}\n".encode() if kind == "svg" else content)


def format_of(name: str) -> Format:
    """One of `FORMATS` by its name. Raises ConfigError for another name."""
    for known in FORMATS:
        if name == known:
            return known
    raise ConfigError(f"figure format {name!r}", needed=" or ".join(FORMATS))
