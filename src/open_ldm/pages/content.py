"""What pages consist of, as plain data: the templates lay it out."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from open_ldm.pages.charts import Chart, HeatMap, Plot
from open_ldm.pages.figures import inline
from open_ldm.pages.templates import render, slug

_PNG_HEADER = struct.Struct(">8s4x4sII")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(e[-+]?\d+)?([kMB]| %)?")


@dataclass(frozen=True)
class Link:
    """A reference to another file. `href`: relative to the page, or a whole URI where no relative path leads there."""

    text: str
    href: str


@dataclass(frozen=True)
class Picture:
    """The bytes of a PNG file, which the page holds, and the line below it. `href`: the file itself, if it lies beside the
    page; `alt`: for those who do not see it (the caption by default)."""

    caption: str
    png: bytes
    alt: str = ""
    href: str = ""

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Width and height; None when the bytes are no PNG."""
        if len(self.png) < _PNG_HEADER.size:
            return None
        signature, chunk, width, height = _PNG_HEADER.unpack_from(self.png)
        return (width, height) if (signature, chunk) == (_PNG_SIGNATURE, b"IHDR") else None


@dataclass(frozen=True)
class Figure:
    """An inline SVG and the line below it. `narrow`: the same for a phone, since text in an SVG shrinks with it."""

    wide: Markup
    caption: str = ""
    narrow: Markup | None = None


def figure(
    chart: Chart, caption: str = "", *, width_px: int | None = None, narrow_px: tuple[int, int] | None = (380, 270)
) -> Figure:
    """A chart to be put into a page, drawn twice where it can be: as wide as `width_px`, and small for a phone.

    Args:
        chart: What is drawn. A map keeps the size that its cells need.
        caption: The line below it.
        width_px: Width on a desk; None keeps the chart's own.
        narrow_px: Width and height on a phone; None draws it once, for both.
    """
    if isinstance(chart, HeatMap):
        return Figure(inline(chart), caption)
    wide = chart if width_px is None else replace(chart, width=width_px)
    if narrow_px is None:
        return Figure(inline(wide), caption)
    width, height = narrow_px
    narrow = replace(chart, width=width, height=height) if isinstance(chart, Plot) else replace(chart, width=width)
    return Figure(inline(wide), caption, inline(narrow))


@dataclass(frozen=True)
class Table:
    """Rows of text or links, each as long as `header` (which may be empty)."""

    rows: Sequence[Sequence[str | Link]]
    header: Sequence[str | Link] = ()

    @property
    def numeric(self) -> frozenset[int]:
        """The columns whose cells are numbers, which are aligned at their right."""
        columns = range(min(map(len, self.rows), default=0))
        return frozenset(column for column in columns if all(_is_number(row[column]) for row in self.rows))


@dataclass(frozen=True)
class Fact:
    """One key figure."""

    name: str
    value: str


@dataclass(frozen=True)
class Head:
    """The top of a page. `state`: one word with a tone (good, waiting, busy or bad); `reason`: why it is in that state."""

    title: str
    subtitle: str = ""
    state: str = ""
    tone: str = ""
    reason: str = ""
    facts: Sequence[Fact] = ()
    links: Sequence[Link] = ()


@dataclass(frozen=True)
class Part:
    """A titled section of a page: `template` lays out `content`, which it knows by that name."""

    title: str
    template: str
    content: Any


def render_page(head: Head, parts: Iterable[Part | None], what: str) -> str:
    """A whole page with its table of contents and its style; `what` it is stands behind its title. None is left out."""
    shown = [part for part in parts if part is not None]
    return render("page.html", head=head, parts=list(zip(_ids(shown), shown, strict=True)), what=what)


def link_to(path: Path, page: Path, text: str = "") -> Link:
    """A link from `page` to `path`, relative, so that both can be moved together; named by its path unless `text` is given."""
    try:
        target = Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
    except ValueError:  # on another drive of Windows, which no relative path reaches
        return Link(text or path.name, path.resolve().as_uri())
    return Link(text or target, quote(target) + ("/" if path.is_dir() else ""))


def _ids(parts: Sequence[Part]) -> list[str]:
    """An id for every part, by its title where that is possible."""
    found: list[str] = []
    for number, part in enumerate(parts, start=1):
        named = slug(part.title)
        found.append(named if named and named not in found else f"part-{number}")
    return found


def _is_number(cell: str | Link) -> bool:
    return isinstance(cell, str) and (cell in ("–", "-", "…") or _NUMBER.fullmatch(cell) is not None)
