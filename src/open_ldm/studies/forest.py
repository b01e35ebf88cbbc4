"""Values of several arms side by side with their intervals, as a small self-contained SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.pages.axes import scale_of, short_number
from open_ldm.pages.markup import Markup, element
from open_ldm.studies.results import Summary

_ROW, _TOP, _BOTTOM, _LETTER = 26, 12, 40, 6.4
_STYLE = (
    ".forest{font:12px system-ui,sans-serif;color:#59616d}.forest text{fill:currentColor}"
    ".forest .rule{stroke:currentColor;stroke-opacity:.16}.forest .span{stroke:#2f6fde;stroke-width:2}"
    ".forest .mean{fill:#2f6fde}.forest .seed{fill:#2f6fde;fill-opacity:.35}"
    "@media(prefers-color-scheme:dark){.forest{color:#a3abb8}.forest .span{stroke:#7fb0ff}"
    ".forest .mean,.forest .seed{fill:#7fb0ff}}"
)


@dataclass(frozen=True)
class Row:
    """One arm: its summary, and the value of each seed."""

    name: str
    summary: Summary
    seeds: Sequence[float]


def forest_plot(title: str, rows: Sequence[Row], width: int = 640) -> Markup:
    """A row for each arm: mean, interval, and a faint dot for every seed."""
    left = 20 + _LETTER * max(len(row.name) for row in rows)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    values = [value for row in rows for value in (row.summary.low, row.summary.high, *row.seeds)]
    scale = scale_of(values, "linear", left, width - 20.0, padded=True)
    parts: list[Markup] = [element("title", title), element("style", Markup(_STYLE))]
    if scale is not None:
        bottom = height - _BOTTOM
        for tick in scale.ticks(5):
            x = scale.px(tick)
            parts.append(element("line", class_="rule", x1=x, x2=x, y1=_TOP, y2=bottom))
            parts.append(element("text", short_number(tick), x=x, y=bottom + 16, text_anchor="middle"))
        for number, row in enumerate(rows):
            y = _TOP + _ROW * (number + 0.5)
            low, high = scale.px(row.summary.low), scale.px(row.summary.high)
            parts.append(element("text", row.name, x=left - 10, y=y + 4, text_anchor="end"))
            parts.append(element("line", class_="span", x1=low, x2=high, y1=y, y2=y))
            parts += [element("circle", class_="seed", cx=scale.px(value), cy=y, r=3) for value in row.seeds]
            parts.append(element("circle", class_="mean", cx=scale.px(row.summary.mean), cy=y, r=4.5))
    parts.append(element("text", title, x=(left + width) / 2, y=height - 6, text_anchor="middle"))
    box = f"0 0 {width} {height}"
    return element("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, class_="forest", role="img")
