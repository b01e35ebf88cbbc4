"""matplotlib's SVG made fit for a page: nothing in it can clash with the page or with another figure, and it has a dark side.

matplotlib writes a document for a browser window: fixed size, ids, a style for `*`, symbols that are used by reference. Here
* style declarations become presentation attributes, so that a style sheet can overrule them;
* the ink becomes `currentColor`, and a style sheet says what the other colours are on a dark page;
* used symbols are put in place, clip paths become nested `<svg>` elements (they clip by themselves), and ids go;
* a group whose id begins with `TITLE` gets the rest of it as its `<title>`, which browsers show when one points at it.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from open_ldm.pages.colours import INK, INK_ON_DARK, ON_DARK
from open_ldm.pages.labels import one_line

TITLE = "title:"
_HREF = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")
_DROPPED = ("metadata", "defs")
_STYLE = (
    ".plot{font-family:system-ui,sans-serif}@media(prefers-color-scheme:dark){"
    f".plot{{color:{INK_ON_DARK}}}"
    + "".join(f'.plot [{side}="{light}"]{{{side}:{dark}}}' for light, dark in ON_DARK.items() for side in ("stroke", "fill"))
    + "}"
)


def themed(written: bytes, title: str, most_px: float | None = None) -> str:
    """One `<svg>` element of class `plot` with a title for screen readers.

    Args:
        written: what matplotlib's SVG backend wrote, with text as text.
        title: what the figure shows.
        most_px: greatest width on a page in px; None lets it grow with what holds it.
    """
    source = fromstring(written)
    named = {one.get("id", ""): one for one in source.iter() if one.get("id")}
    box = source.get("viewBox", "")
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "class": "plot", "role": "img"})
    root.attrib |= {"color": INK, "stroke-linejoin": "round", "stroke-linecap": "butt"}
    if most_px is not None:
        root.set("style", f"max-width:{most_px:g}px")
    SubElement(root, "title").text = one_line(title)
    SubElement(root, "style").text = _STYLE
    for child in source:
        root.extend(_rebuilt(child, named))
    return tostring(root, encoding="unicode")


def _rebuilt(one: Element, named: dict[str, Element]) -> list[Element]:
    """An element of matplotlib's as elements of ours: none for what is not drawn, several for a group that says nothing."""
    tag = one.tag.rpartition("}")[2]
    if tag in _DROPPED:
        return []
    if tag == "use":
        return [_used(one, named)]
    children = [new for child in one for new in _rebuilt(child, named)]
    attributes = _attributes(one)
    clip = attributes.pop("clip-path", None)
    if tag == "g":
        label = one.get("id", "")
        if label.startswith(TITLE) and children:
            heading = Element("title")
            heading.text = label.removeprefix(TITLE)
            children.insert(0, heading)
        elif not attributes:
            return children
    new = Element(tag, attributes)
    new.text = (one.text or "").strip() or None
    new.extend(children)
    return [new if clip is None else _clipped(new, named[clip.removeprefix("url(#").removesuffix(")")])]


def _attributes(one: Element) -> dict[str, str]:
    """Attributes without id, and each style declaration as an attribute of its own; the font family is the style sheet's."""
    found = {name: value for name, value in one.attrib.items() if name not in ("id", "style", _HREF)}
    for declaration in filter(None, one.get("style", "").split(";")):
        name, _, value = declaration.partition(":")
        found[name.strip()] = value.strip()
    found.pop("font-family", None)
    if found.get("transform", "").startswith("rotate(-0 "):
        del found["transform"]
    if "d" in found:
        found["d"] = " ".join(_rounded(found["d"]).split())
    return {name: "currentColor" if value == INK else _rounded(value) for name, value in found.items()}


def _rounded(text: str) -> str:
    """Numbers to a hundredth of a px, so that the last digits of a processor's arithmetic are not written."""
    return _NUMBER.sub(lambda found: f"{round(float(found[0]), 2) + 0.0:.6g}", text)  # + 0.0: no -0


def _used(use: Element, named: dict[str, Element]) -> Element:
    """The symbol that is used, where it is used."""
    placed = _attributes(use)
    x, y = placed.pop("x", "0"), placed.pop("y", "0")
    symbol = named[use.get(_HREF, "").removeprefix("#")]
    return Element("path", {**_attributes(symbol), **placed, "transform": f"translate({x} {y})"})


def _clipped(shown: Element, clip: Element) -> Element:
    """What is shown of an element inside the rectangle of a clip path."""
    rectangle = _attributes(clip[0])
    x, y, width, height = (rectangle[name] for name in ("x", "y", "width", "height"))
    box = {"x": x, "y": y, "width": width, "height": height, "viewBox": f"{x} {y} {width} {height}", "overflow": "hidden"}
    window = Element("svg", box)
    window.append(shown)
    return window
