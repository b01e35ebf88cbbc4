"""The Jinja2 environment of all pages. Whatever a template is given is escaped, unless it is `Markup`."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:")


@cache
def environment() -> Environment:
    """The one environment: packaged templates, autoescape on, a name that was not given is an error."""
    made = Environment(
        loader=PackageLoader("open_ldm.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"count": count, "png_data_uri": png_data_uri}
    made.tests["moment"] = is_moment
    return made


def render(template: str, **context: Any) -> str:
    """The template of that file name, filled with `context`.

    Raises jinja2.UndefinedError for a name that the template uses and `context` does not give.
    """
    return environment().get_template(template).render(context)


def render_text(template: str, **context: Any) -> str:
    """The template of a text that is no HTML, such as Markdown, filled with `context`, one line end at the end."""
    return environment().overlay(autoescape=False).get_template(template).render(context).rstrip("\n") + "\n"


def count(number: int) -> str:
    """1234567 -> '1,234,567'."""
    return f"{number:,}"


def slug(title: str) -> str:
    """'Samples through time' -> 'samples-through-time', for an id."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def is_moment(content: object) -> bool:
    """Whether a cell is a time as in '2026-03-14 09:26:53'."""
    return isinstance(content, str) and _MOMENT.match(content) is not None


def png_data_uri(png: bytes) -> str:
    """The bytes of a PNG file as a URI that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
