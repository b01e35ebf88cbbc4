"""Line plots as small self-contained SVG: no script, no font file, and readable on a light or a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.pages.axes import Axis, Scale, scale_of, short_number
from open_ldm.pages.markup import Markup, element, joined

_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 18.0, 10.0, 42.0
_LEGEND_ROW = 20.0
_LETTER = 6.6
_MOST_POINTS = 900
_COLOURS_LIGHT = ("#2f6fde", "#d2601a", "#1f8a5f", "#a8448f", "#8a6d1f", "#5b6270")
_COLOURS_DARK = ("#7fb0ff", "#ff9d5c", "#5fd3a2", "#e58fcb", "#dcc06a", "#aab2bf")
_STYLE = (
    ".plot{font:12px system-ui,sans-serif;color:#59616d}.plot text{fill:currentColor}"
    ".plot .rule{stroke:currentColor;stroke-opacity:.16}.plot .axis{stroke:currentColor;stroke-opacity:.5}"
    ".plot .mark{stroke:currentColor;stroke-opacity:.6;stroke-dasharray:2 4}"
    ".plot .curve{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".plot .faint{stroke-width:1;stroke-opacity:.28}.plot .band{fill-opacity:.16;stroke-opacity:.4}"
    + "".join(f".plot .s{i}{{stroke:{colour}}}.plot .band.s{i}{{fill:{colour}}}" for i, colour in enumerate(_COLOURS_LIGHT))
    + "@media(prefers-color-scheme:dark){.plot{color:#a3abb8}"
    + "".join(f".plot .s{i}{{stroke:{colour}}}.plot .band.s{i}{{fill:{colour}}}" for i, colour in enumerate(_COLOURS_DARK))
    + "}"
)


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
    """A dashed vertical line at `x`; `text` is shown when one points at it."""

    x: float
    text: str


@dataclass(frozen=True)
class Plot:
    """What to draw. `title` is for screen readers; sizes in px. `from_zero` puts 0 on a linear y axis."""

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


def line_plot(plot: Plot) -> Markup:
    """The plot as one `<svg>` element, to be put into a page or written to a file of its own."""
    shown = [Series(one.name, *_drawable(one, plot.x_axis, plot.y_axis), one.smooth, one.band) for one in plot.series]
    legend = _legend(plot) if len(plot.series) > 1 else Markup()
    top = _TOP + (_LEGEND_ROW * _legend_rows(plot) if legend else 0)
    x_scale = scale_of([x for one in shown for x in one.x], plot.x_axis, _LEFT, plot.width - _RIGHT)
    y_scale = scale_of(_typical(shown), plot.y_axis, plot.height - _BOTTOM, top, zero=plot.from_zero, padded=True)
    parts = [element("title", plot.title), element("style", Markup(_STYLE)), legend]
    if x_scale is None or y_scale is None:
        parts.append(element("text", "no finite values yet", x=plot.width / 2, y=plot.height / 2, text_anchor="middle"))
    else:
        parts += [_axes(plot, x_scale, y_scale), _marks(plot.marks, x_scale, y_scale), _curves(shown, x_scale, y_scale)]
    box = f"0 0 {plot.width} {plot.height}"
    return element("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, class_="plot", role="img")


def stacked(plots: Sequence[Plot]) -> Markup:
    """Several plots, one above the other, as one `<svg>` element."""
    parts, top = [], 0
    for plot in plots:
        parts.append(element("svg", line_plot(plot), y=top, width=plot.width, height=plot.height))
        top += plot.height
    box = f"0 0 {max(plot.width for plot in plots)} {top}"
    return element("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, role="img")


def smoothed(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Running mean over about `share` of the points to either side; values that are not finite are passed over.

    An exponential mean forwards and then backwards, so the curve does not lag behind a falling loss.
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


def _drawable(series: Series, x_axis: Axis, y_axis: Axis) -> tuple[list[float], list[float]]:
    """The points of a series with everything that cannot be drawn turned into NaN y values."""
    x_values: list[float] = []
    y_values: list[float] = []
    for x, y in zip(series.x, series.y, strict=True):
        if math.isfinite(x) and (x_axis == "linear" or x > 0):
            x_values.append(x)
            y_values.append(y if math.isfinite(y) and (y_axis == "linear" or y > 0) else math.nan)
    return x_values, y_values


def _typical(series: Sequence[Series]) -> list[float]:
    """Values that decide the y range: all of a plain curve; of a smoothed one, without the rarest spikes."""
    result: list[float] = []
    for one in series:
        finite = sorted(value for value in [*one.y, *(end for ends in one.band for end in ends)] if math.isfinite(value))
        cut = len(finite) // 100 if one.smooth else 0
        result += finite[cut : len(finite) - cut]
    return result


def _axes(plot: Plot, x_scale: Scale, y_scale: Scale) -> Markup:
    bottom, right = plot.height - _BOTTOM, plot.width - _RIGHT
    parts: list[Markup] = []
    for tick in y_scale.ticks(max(3, round((y_scale.start - y_scale.end) / 42))):
        y = y_scale.px(tick)
        parts.append(element("line", class_="rule", x1=_LEFT, x2=right, y1=y, y2=y))
        parts.append(element("text", short_number(tick), x=_LEFT - 7, y=y + 4, text_anchor="end"))
    for tick in x_scale.ticks(max(3, round((right - _LEFT) / 90))):
        x = x_scale.px(tick)
        parts.append(element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4))
        parts.append(element("text", short_number(tick), x=x, y=bottom + 18, text_anchor="middle"))
    parts.append(element("line", class_="axis", x1=_LEFT, x2=right, y1=bottom, y2=bottom))
    middle = (y_scale.start + y_scale.end) / 2
    parts.append(element("text", plot.x_title, x=(_LEFT + right) / 2, y=plot.height - 6, text_anchor="middle"))
    turned = f"translate(13 {middle:.1f}) rotate(-90)"
    parts.append(element("text", plot.y_title, transform=turned, text_anchor="middle"))
    return joined(parts)


def _marks(marks: Sequence[Mark], x_scale: Scale, y_scale: Scale) -> Markup:
    parts: list[Markup] = []
    for mark in marks:
        if x_scale.low <= mark.x <= x_scale.high:
            x = x_scale.px(mark.x)
            line = element("line", class_="mark", x1=x, x2=x, y1=y_scale.start, y2=y_scale.end)
            parts.append(element("g", element("title", mark.text), line))
    return joined(parts)


def _curves(series: Sequence[Series], x_scale: Scale, y_scale: Scale) -> Markup:
    """All curves inside a nested svg, which cuts off spikes at the edge without needing an id for a clip path."""
    parts: list[Markup] = []
    for number, one in enumerate(series):
        colour = f"s{number % len(_COLOURS_LIGHT)}"
        if one.band:
            parts.append(_band(one, x_scale, y_scale, f"band {colour}"))
        if one.smooth:
            parts.append(_curve(one.x, one.y, x_scale, y_scale, f"curve faint {colour}"))
        line = smoothed(one.y) if one.smooth else one.y
        parts.append(_curve(one.x, line, x_scale, y_scale, f"curve {colour}"))
    left, top = x_scale.start, y_scale.end
    width, height = x_scale.end - left, y_scale.start - top
    box = f"{left:.2f} {top - 1:.2f} {width:.2f} {height + 2:.2f}"
    return element("svg", *parts, x=left, y=top - 1, width=width, height=height + 2, viewBox=box, overflow="hidden")


def _band(series: Series, x_scale: Scale, y_scale: Scale, class_: str) -> Markup:
    """The area between lowest and highest value, there and back."""
    there = [(x, low) for x, (low, _) in zip(series.x, series.band, strict=True)]
    back = [(x, high) for x, (_, high) in zip(series.x, series.band, strict=True)][::-1]
    corners = "L".join(f"{x_scale.px(x):.1f} {y_scale.px(y):.1f}" for x, y in [*there, *back])
    return element("path", class_=class_, d=f"M{corners}Z")


def _curve(x: Sequence[float], y: Sequence[float], x_scale: Scale, y_scale: Scale, class_: str) -> Markup:
    commands: list[str] = []
    pen_down = False
    for index in _thinned(y):
        if not math.isfinite(y[index]):
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{x_scale.px(x[index]):.1f} {y_scale.px(y[index]):.1f}")
        if not pen_down:
            commands.append("h0")  # so that a lone point between two gaps is drawn as a dot
        pen_down = True
    return element("path", class_=class_, d="".join(commands))


def _thinned(values: Sequence[float]) -> list[int]:
    """Indices to draw: all, or the lowest and highest point of each bucket, so that spikes and gaps stay."""
    if len(values) <= _MOST_POINTS:
        return list(range(len(values)))
    size = math.ceil(2 * len(values) / _MOST_POINTS)
    chosen = {0, len(values) - 1}
    for begin in range(0, len(values), size):
        bucket = range(begin, min(begin + size, len(values)))
        finite = [index for index in bucket if math.isfinite(values[index])]
        if finite:
            chosen |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        else:
            chosen.add(begin)
    return sorted(chosen)


def _legend_places(plot: Plot) -> list[tuple[float, int]]:
    places: list[tuple[float, int]] = []
    x, row = _LEFT, 0
    for one in plot.series:
        needed = 34 + _LETTER * len(one.name)
        if x > _LEFT and x + needed > plot.width:
            x, row = _LEFT, row + 1
        places.append((x, row))
        x += needed
    return places


def _legend_rows(plot: Plot) -> int:
    return 1 + max(row for _, row in _legend_places(plot))


def _legend(plot: Plot) -> Markup:
    parts: list[Markup] = []
    for number, (one, (x, row)) in enumerate(zip(plot.series, _legend_places(plot), strict=True)):
        y = _TOP + 4 + row * _LEGEND_ROW
        colour = f"curve s{number % len(_COLOURS_LIGHT)}"
        parts.append(element("line", class_=colour, x1=x, x2=x + 16, y1=y, y2=y))
        parts.append(element("text", one.name, x=x + 21, y=y + 4))
    return joined(parts)
