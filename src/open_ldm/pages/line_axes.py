"""Curves on matplotlib axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.colours import CURVES, INK
from open_ldm.pages.curves import Axis, Values, coincident, drawable, limits, lone, smoothed, thinned, typical
from open_ldm.pages.labels import one_line
from open_ldm.pages.panel import LINE_PX, Panel, lines_in
from open_ldm.pages.themed_svg import TITLE
from open_ldm.pages.ticks import set_ticks, ticks_of

_DASH = 9.0
_DASHES = ("solid", (0.0, (6.0, 3.0)), (0.0, (2.0, 2.5)))
"""Of the first six curves, of the next six, of the rest."""


class _Curve:
    """A series as it is drawn: x and y with NaN where nothing can be drawn, the line through it, and its band."""

    def __init__(self, series: Series, x_axis: Axis, y_axis: Axis) -> None:
        x = drawable(series.x, x_axis)
        there = ~np.isnan(x)
        self.name, self.smooth = series.name, series.smooth
        self.x, self.y = x[there], drawable(series.y, y_axis)[there]
        self.line = np.asarray(smoothed(self.y.tolist())) if series.smooth else self.y
        band = np.asarray(series.band, dtype=np.float64).reshape(-1, 2)[there if series.band else []]
        self.low, self.high = (drawable(band[:, end], y_axis) for end in (0, 1))

    def deciding(self) -> Values:
        """Values that decide the y range: all of a plain curve; of a smoothed one, without the rarest spikes."""
        values = np.concatenate([self.y, self.low, self.high])
        return typical(values) if self.smooth else values


def draw_plot(panel: Panel, plot: Plot) -> None:
    """Curves with their axes, and a legend above them when there are several."""
    curves = [_Curve(series, plot.x_axis, plot.y_axis) for series in plot.series]
    x_limits = limits(np.concatenate([[], *(curve.x for curve in curves)]), plot.x_axis)
    deciding = np.concatenate([[], *(curve.deciding() for curve in curves)])
    y_limits = limits(deciding, plot.y_axis, zero=plot.from_zero, padded=True)
    if x_limits is None or y_limits is None:
        axes = panel.axes()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no finite values yet", transform=axes.transAxes, ha="center", va="center")
        return
    looks = _looks(curves, plot, x_limits, y_limits)
    if len(curves) > 1:
        panel.legend([curve.name for curve in curves], [_in_legend(look) for look in looks])
    axes = panel.axes()
    axes.set(xscale=plot.x_axis, yscale=plot.y_axis, xlim=x_limits, ylim=y_limits)
    label_axes(panel, axes, plot.x_title, plot.y_title, plot.x_axis, plot.y_axis)
    for mark in plot.marks:
        if x_limits[0] <= mark.x <= x_limits[1]:
            gid = TITLE + one_line(mark.text)
            axes.axvline(mark.x, color=INK, alpha=0.7, linewidth=1, linestyle=(0, (2, 4)), clip_on=False, gid=gid)
    for curve, look in zip(curves, looks, strict=True):
        _draw(axes, curve, look)
    panel.fit(axes)


def label_axes(panel: Panel, axes: Axes, x_title: str, y_title: str, x_axis: Axis = "linear", y_axis: Axis = "linear") -> None:
    """Ticks, grid lines and titles of axes whose limits are set; titles are wrapped to the length of their axis."""
    ruler, box = panel.ruler, axes.get_window_extent()
    ticks, labels = ticks_of(y_axis, *axes.get_ylim(), box.height, lambda label: 30)
    set_ticks(axes.yaxis, ticks, labels)
    axes.grid(axis="y", alpha=0.18, clip_on=False)
    beside = max(map(ruler.width, labels), default=0) + 24
    ticks, labels = ticks_of(x_axis, *axes.get_xlim(), box.x1 - beside - LINE_PX, lambda label: ruler.width(label) + 16)
    set_ticks(axes.xaxis, ticks, labels)
    last = max(map(ruler.width, labels), default=0) / 2 + 12
    x_lines, y_lines = x_title, y_title
    for _ in range(2):  # each title takes room from the other
        x_lines = ruler.wrapped(x_title, panel.width - beside - LINE_PX * lines_in(y_lines) - last)
        y_lines = ruler.wrapped(y_title, panel.height - panel.top - LINE_PX * lines_in(x_lines) - 44)
    axes.set(xlabel=x_lines, ylabel=y_lines)


def _looks(
    curves: list[_Curve], plot: Plot, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> list[dict[str, Any]]:
    """Colour and dashes of every curve. Of curves that lie on one another each is drawn where the others leave gaps."""
    placed = [
        (_px(curve.x, plot.x_axis, x_limits, plot.width), _px(curve.line, plot.y_axis, y_limits, plot.height))
        for curve in curves
    ]
    looks: list[dict[str, Any]] = []
    for number, (place, count) in enumerate(coincident(placed)):
        dashes: Any = _DASHES[min(number // len(CURVES), len(_DASHES) - 1)]
        if count > 1:
            dashes = ((count - place) * _DASH, (_DASH, (count - 1) * _DASH))
        looks.append({"color": CURVES[number % len(CURVES)], "linestyle": dashes})
    return looks


def _in_legend(look: dict[str, Any]) -> dict[str, Any]:
    """The same look, with dashes that begin where the line begins."""
    dashes = look["linestyle"]
    return look if isinstance(dashes, str) else {**look, "linestyle": (0.0, dashes[1])}


def _px(values: Values, axis: Axis, ends: tuple[float, float], length: float) -> Values:
    low, high, there = (np.log(each) if axis == "log" else np.asarray(each) for each in (*ends, values))
    return np.asarray((there - low) / (high - low) * length)


def _draw(axes: Axes, curve: _Curve, look: dict[str, Any]) -> None:
    """Only what a smoothed curve's spikes can carry over the edge is clipped, so that points at the edge stay whole."""
    colour = look["color"]
    low = curve.low
    if axes.get_yscale() == "log":  # an interval that reaches down to 0 has no lower end there
        low = np.where(np.isnan(low) & ~np.isnan(curve.high), axes.get_ylim()[0], low)
    if len(low):
        shaded = axes.fill_between(curve.x, low, curve.high, color=colour, alpha=0.16, linewidth=0)
        shaded.set(clip_on=False, gid="band")
    if curve.smooth:
        kept = thinned(curve.y)
        axes.plot(curve.x[kept], curve.y[kept], color=colour, alpha=0.28, linewidth=1, gid="faint")
    kept = thinned(curve.line)
    axes.plot(curve.x[kept], curve.line[kept], **look, clip_on=curve.smooth, gid="curve")
    alone = lone(curve.line[kept])
    if alone.any():
        x, y = curve.x[kept][alone], curve.line[kept][alone]
        axes.plot(
            x, y, color=colour, linestyle="none", marker="o", markersize=5, markeredgewidth=0, clip_on=False, gid="points"
        )
        if len(low):
            axes.vlines(x, low[kept][alone], curve.high[kept][alone], color=colour, alpha=0.4, clip_on=False, gid="band")
