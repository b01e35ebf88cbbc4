"""Heat maps and forest plots on matplotlib axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from open_ldm.pages.charts import Forest, HeatMap
from open_ldm.pages.colours import CURVES, STRONG
from open_ldm.pages.curves import limits
from open_ldm.pages.labels import one_line, short_number
from open_ldm.pages.panel import LINE_PX, Panel, Ruler, lines_in
from open_ldm.pages.ticks import set_ticks, ticks_of

_CELL_WIDTH, _CELL_HEIGHT = 92.0, 44.0
_FAINTEST, _STRONGEST = 0.06, 0.6
_ROW = 26.0
_NAME_SHARE = 0.42
_COLOUR = CURVES[0]


@dataclass(frozen=True)
class _Table:
    """The names of a heat map, and its titles in lines that fit."""

    rows: list[str]
    columns: list[str]
    row_title: str
    column_title: str

    @classmethod
    def of(cls, shown: HeatMap, ruler: Ruler) -> _Table:
        """Return the layout of a heat map: its rows and columns in order, and the words at its axes."""
        rows, columns = (sorted({one_line(name) for name in names}, key=_place) for names in _pairs(shown))
        width, height = _CELL_WIDTH * max(len(columns), 2), _CELL_HEIGHT * max(len(rows), 3)
        return cls(rows, columns, ruler.wrapped(shown.axes[0], height), ruler.wrapped(shown.axes[1], width))


def _pairs(shown: HeatMap) -> tuple[list[str], list[str]]:
    return [cell.row for cell in shown.cells], [cell.column for cell in shown.cells]


def _place(name: str) -> tuple[float, str]:
    """Numbers in their order, before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _below(names: list[str], ruler: Ruler) -> list[str]:
    """Names of columns in lines as wide as a cell."""
    return [ruler.wrapped(name, _CELL_WIDTH - 8) for name in names]


def size_of_heat_map(shown: HeatMap, ruler: Ruler) -> tuple[float, float]:
    """Width and height in px."""
    table = _Table.of(shown, ruler)
    names = max(map(ruler.width, table.rows), default=0)
    width = 36 + LINE_PX * lines_in(table.row_title) + names + _CELL_WIDTH * max(len(table.columns), 2)
    lines = lines_in(*_below(table.columns, ruler)) + lines_in(table.column_title)
    title = 19 * lines_in(ruler.wrapped(shown.title, width - 12))
    return width, title + _CELL_HEIGHT * max(len(table.rows), 3) + LINE_PX * lines + 32


def draw_heat_map(panel: Panel, shown: HeatMap) -> None:
    """A rectangle for every cell, the more opaque the larger its value, with the value on it."""
    table = _Table.of(shown, panel.ruler)
    rows, columns = table.rows, table.columns
    panel.heading(shown.title)
    axes = panel.axes()
    axes.set(xlim=(0, max(len(columns), 1)), ylim=(max(len(rows), 1), 0), xlabel=table.column_title, ylabel=table.row_title)
    set_ticks(axes.xaxis, [number + 0.5 for number in range(len(columns))], _below(columns, panel.ruler))
    set_ticks(axes.yaxis, [number + 0.5 for number in range(len(rows))], rows)
    axes.tick_params(length=0)
    axes.spines.bottom.set_visible(False)
    values = [cell.value for cell in shown.cells if np.isfinite(cell.value)]
    low, span = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
    for cell in shown.cells:
        x, y = columns.index(one_line(cell.column)), rows.index(one_line(cell.row))
        share = (cell.value - low) / span if span > 0 and np.isfinite(cell.value) else 0.0
        opacity = round(_FAINTEST + (_STRONGEST - _FAINTEST) * share, 3)
        cell_box = Rectangle((x + 0.01, y + 0.02), 0.98, 0.96, facecolor=_COLOUR, alpha=opacity, linewidth=0, gid="cell")
        axes.add_patch(cell_box).set_clip_on(False)
        value = short_number(float(f"{cell.value:.3g}"))
        axes.text(x + 0.5, y + 0.5, value, color=STRONG, weight="bold", ha="center", va="center")
    panel.fit(axes)


def size_of_forest(shown: Forest, ruler: Ruler) -> tuple[float, float]:
    """Width and height in px."""
    return shown.width, 42 + LINE_PX * lines_in(_title(shown, ruler)) + sum(_heights(_beside(shown, ruler)))


def _title(shown: Forest, ruler: Ruler) -> str:
    return ruler.wrapped(shown.title, shown.width * (1 - _NAME_SHARE) - 60)


def _beside(shown: Forest, ruler: Ruler) -> list[str]:
    """Names of rows in lines that leave room for the axes."""
    return [ruler.wrapped(row.name, _NAME_SHARE * shown.width) for row in shown.rows]


def _heights(names: list[str]) -> list[float]:
    return [_ROW + LINE_PX * (lines_in(name) - 1) for name in names]


def draw_forest(panel: Panel, shown: Forest) -> None:
    """A row for each name: mean, interval, and a faint dot for every seed."""
    names = _beside(shown, panel.ruler)
    heights = _heights(names)
    middles = [sum(heights[:number]) + height / 2 for number, height in enumerate(heights)]
    values = np.array([value for row in shown.rows for value in (row.mean, row.low, row.high, *row.seeds)])
    axes = panel.axes()
    axes.set(ylim=(max(sum(heights), 1), 0))
    set_ticks(axes.yaxis, middles, names)
    axes.set_xlabel(_title(shown, panel.ruler))
    ends = limits(values, "linear", padded=True)
    axes.set_xlim(*(ends or (0, 1)))
    set_ticks(axes.xaxis, [], [])
    panel.fit(axes)
    if ends is not None:
        room = axes.get_window_extent().width
        set_ticks(axes.xaxis, *ticks_of("linear", *ends, room, lambda label: panel.ruler.width(label) + 16))
    axes.grid(axis="x", alpha=0.18, clip_on=False)
    for row, y in zip(shown.rows, middles, strict=True):
        axes.plot([row.low, row.high], [y, y], color=_COLOUR, clip_on=False, gid="interval")
        for points, size, alpha, gid in (([*row.seeds], 6, 0.35, "seed"), ([row.mean], 9, 1.0, "mean")):
            dots: dict[str, Any] = {"color": _COLOUR, "alpha": alpha, "marker": "o", "markersize": size, "markeredgewidth": 0}
            axes.plot(points, [y] * len(points), linestyle="none", clip_on=False, gid=gid, **dots)
    panel.fit(axes)
