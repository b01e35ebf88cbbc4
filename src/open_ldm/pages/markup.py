"""HTML and SVG elements whose text and attributes are always escaped, so that no caption can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

import markupsafe


class Markup(str):
    """Text that is markup already; every other `str` is escaped when it is put into an element."""

    __slots__ = ()


def escaped(content: str) -> Markup:
    """`content` as markup: unchanged when it is markup already, of this module or of markupsafe."""
    return Markup(content) if isinstance(content, Markup | markupsafe.Markup) else Markup(html.escape(content))


def joined(parts: Iterable[str], separator: str = "") -> Markup:
    """Markup of the parts, one after the other."""
    return Markup(separator.join(escaped(part) for part in parts))


_EMPTY = ("img", "meta", "br", "line", "path", "rect", "circle")


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """`<name attributes>children</name>`. Of attribute names, `class_` means class, `_` means `-`; None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
