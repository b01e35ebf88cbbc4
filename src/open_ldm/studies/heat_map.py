"""One number for every pair of two settings, as a small self-contained SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.pages.axes import short_number
from open_ldm.pages.markup import Markup, element

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 92, 44, 70, 12, 52
_FAINTEST, _STRONGEST = 0.06, 0.6
_STYLE = (
    ".heat{font:12px system-ui,sans-serif;color:#59616d}.heat text{fill:currentColor}.heat rect{fill:#2f6fde}"
    ".heat .value{fill:#16181d;font-weight:600}"
    "@media(prefers-color-scheme:dark){.heat{color:#a3abb8}.heat rect{fill:#7fb0ff}.heat .value{fill:#eef1f5}}"
)


@dataclass(frozen=True)
class Cell:
    """The value of one pair of settings."""

    row: str
    column: str
    value: float


def heat_map(title: str, axes: tuple[str, str], cells: Sequence[Cell]) -> Markup:
    """Rows by `axes[0]`, columns by `axes[1]`, the stronger the larger; a pair without a cell stays empty."""
    rows = sorted({cell.row for cell in cells}, key=_place)
    columns = sorted({cell.column for cell in cells}, key=_place)
    values = [cell.value for cell in cells]
    low, span = min(values, default=0.0), max(values, default=0.0) - min(values, default=0.0)
    width, height = _LEFT + _WIDTH * len(columns) + 12, _TOP + _HEIGHT * len(rows) + _BOTTOM
    parts: list[Markup] = [element("title", title), element("style", Markup(_STYLE))]
    for cell in cells:
        x, y = _LEFT + _WIDTH * columns.index(cell.column), _TOP + _HEIGHT * rows.index(cell.row)
        share = (cell.value - low) / span if span > 0 else 0.0
        opacity = round(_FAINTEST + (_STRONGEST - _FAINTEST) * share, 3)
        parts.append(element("rect", x=x + 1, y=y + 1, width=_WIDTH - 2, height=_HEIGHT - 2, fill_opacity=opacity))
        middle = {"x": x + _WIDTH / 2, "y": y + _HEIGHT / 2 + 4}
        parts.append(element("text", short_number(float(f"{cell.value:.3g}")), class_="value", text_anchor="middle", **middle))
    for number, name in enumerate(rows):
        parts.append(element("text", name, x=_LEFT - 8, y=_TOP + _HEIGHT * (number + 0.5) + 4, text_anchor="end"))
    bottom = _TOP + _HEIGHT * len(rows)
    for number, name in enumerate(columns):
        parts.append(element("text", name, x=_LEFT + _WIDTH * (number + 0.5), y=bottom + 18, text_anchor="middle"))
    parts.append(element("text", f"{title}: rows {axes[0]}, columns {axes[1]}", x=_LEFT, y=bottom + 40))
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {max(width, 260)} {height}",
        class_="heat",
        role="img",
    )


def _place(name: str) -> tuple[float, str]:
    """Numbers in their order, before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
