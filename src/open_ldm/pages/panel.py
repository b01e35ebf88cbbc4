"""A panel of a matplotlib figure in px: text, a legend, and axes sized so that no label is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from open_ldm.pages.labels import one_line

PX_IN_INCH = 72
LEGEND_PX = 46.0
"""Of a legend that are part of a plot's height; a higher one makes the plot higher, so that the curves keep their room."""
LINE_PX = 15.0
"""From one line of text to the next."""
_FONT_PX = 12
_EDGE = 6.0
_HANDLE, _GAP, _ROW = 24.0, 6.0, 19.0


class Ruler:
    """Measures text in px, in the font of figures."""

    def __init__(self) -> None:
        self._renderer = RendererAgg(1, 1, PX_IN_INCH)  # type: ignore[no-untyped-call]
        self._font = FontProperties(size=_FONT_PX)

    def width(self, text: str) -> float:
        """Width of one line."""
        size = self._renderer.get_text_width_height_descent(text, self._font, False)  # type: ignore[no-untyped-call]
        return float(size[0])

    def wrapped(self, text: str, width: float) -> str:
        """The text in lines of at most `width` px, broken at blanks, or inside a word that is longer than a line."""
        lines: list[str] = []
        line = ""
        for word in one_line(text).split(" "):
            longer = f"{line} {word}" if line else word
            if self.width(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while self.width(line) > width and len(line) > 1:
                part = next((end for end in range(len(line) - 1, 1, -1) if self.width(line[:end]) <= width), 1)
                lines.append(line[:part])
                line = line[part:]
        return "\n".join([*lines, line])


def lines_in(*texts: str) -> int:
    """Of the text that has most."""
    return max((text.count("\n") + 1 for text in texts), default=1)


@dataclass
class Panel:
    """A part of a figure in px: `bottom` from the figure's lower edge. `top`: px at its upper edge that are taken already."""

    figure: Figure
    ruler: Ruler
    bottom: float
    width: float
    height: float
    top: float = _EDGE

    def axes(self) -> Axes:
        """New axes that fill what is free; `fit` makes room for their labels."""
        axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._place(axes, 50, 45, 10, 0)
        return axes

    def fit(self, axes: Axes) -> None:
        """Move the edges of the axes inwards until all of their labels lie inside the panel."""
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        outer, inner = axes.get_tightbbox(canvas.get_renderer()), axes.get_window_extent()  # type: ignore[no-untyped-call]
        if outer is not None:
            self._place(axes, inner.x0 - outer.x0, inner.y0 - outer.y0, outer.x1 - inner.x1, outer.y1 - inner.y1)

    def _place(self, axes: Axes, left: float, bottom: float, right: float, top: float) -> None:
        """`axes` with so many px around them inside what is free."""
        whole_width, whole_height = (side * PX_IN_INCH for side in self.figure.get_size_inches())
        x, y = _EDGE + left, self.bottom + _EDGE + bottom
        width, height = self.width - x - _EDGE - right, self.bottom + self.height - self.top - top - y
        axes.set_position((x / whole_width, y / whole_height, max(width, 1) / whole_width, max(height, 1) / whole_height))

    def text(self, text: str, x: float, y: float) -> None:
        """Lines whose first is centred on `y`, x and y in px from the upper left corner."""
        width, height = (side * PX_IN_INCH for side in self.figure.get_size_inches())
        for row, line in enumerate(text.split("\n")):
            above = (self.bottom + self.height - y - row * _ROW) / height
            self.figure.text(x / width, above, line, va="center_baseline", ha="left")

    def heading(self, text: str) -> None:
        """Words above the axes."""
        text = self.ruler.wrapped(text, self.width - 2 * _EDGE)
        self.text(text, _EDGE, self.top + _ROW / 2)
        self.top += _ROW * len(text.split("\n")) + 6

    def legend(self, names: Sequence[str], looks: Sequence[dict[str, Any]]) -> None:
        """Names with a piece of their line, side by side above the axes, in as many rows as they need.

        Args:
            names: one for each line.
            looks: the properties of each line as matplotlib's `Line2D` takes them.
        """
        whole_width, whole_height = (side * PX_IN_INCH for side in self.figure.get_size_inches())
        entries, height = legend_of(self.ruler, names, self.width)
        for (text, x, row), look in zip(entries, looks, strict=True):
            y = self.top + (row + 0.5) * _ROW
            above = (self.bottom + self.height - y) / whole_height
            self.figure.add_artist(Line2D([x / whole_width, (x + _HANDLE) / whole_width], [above, above], gid="legend", **look))
            self.text(text, x + _HANDLE + _GAP, y)
        self.top += height


def legend_of(ruler: Ruler, names: Sequence[str], width: float) -> tuple[list[tuple[str, float, int]], float]:
    """Of each name its wrapped text, the px from the left where its line begins, and its row; and the height of all in px."""
    entries: list[tuple[str, float, int]] = []
    x, row = _EDGE, 0
    for name in names:
        text = ruler.wrapped(name, width - 2 * _EDGE - _HANDLE - _GAP)
        lines = text.split("\n")
        needed = _HANDLE + _GAP + max(map(ruler.width, lines))
        if x > _EDGE and (x + needed > width - _EDGE or len(lines) > 1):
            x, row = _EDGE, row + 1
        entries.append((text, x, row))
        x += needed + _GAP + 10
        if len(lines) > 1:
            x, row = _EDGE, row + len(lines)
    return entries, _ROW * (row + (x > _EDGE)) + 8
