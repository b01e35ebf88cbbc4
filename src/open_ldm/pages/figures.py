"""The two ways out of a chart: into a page, into a file.

matplotlib is imported when the first chart is drawn, and draws by `open_ldm.mplstyle` whatever settings the user has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_bytes
from open_ldm.pages.charts import FORMATS, Chart, Format, Plot

_MOST_GROWTH = 1.25
_REMEMBERED = 64
"""Charts that a process keeps as text: a report that is written anew while a run trains plots only what has changed."""


def inline(*charts: Chart) -> Markup:
    """The charts, one above the other, as one `<svg>` element to be put into a page.

    It has a viewBox and no fixed size, no id, no reference to anything outside, and follows the page into the dark. It takes
    the width it is given, up to a quarter more than its own. The same charts give the same text.
    """
    return _inline(_Asked(_key(charts), charts))


@dataclass(frozen=True)
class _Asked:
    """Charts, and all of their data as something that can be compared."""

    key: Hashable
    charts: tuple[Chart, ...] = field(compare=False)


@lru_cache(maxsize=_REMEMBERED)
def _inline(asked: _Asked) -> Markup:
    from open_ldm.pages.drawing import drawn, written
    from open_ldm.pages.themed_svg import themed

    with drawn(asked.charts, on_paper=False) as figure:
        return Markup(themed(written(figure, "svg"), asked.charts[0].title, _MOST_GROWTH * 72 * figure.get_figwidth()))


def _key(value: Any) -> Hashable:
    if is_dataclass(value):
        return type(value).__name__, *(_key(getattr(value, each.name)) for each in fields(value))
    return tuple(map(_key, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value


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
