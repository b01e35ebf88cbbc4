"""What stands in the page's address comes back, and what does not fit there is left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from open_ldm.studio.pages.base import from_query

SLIDER = SimpleNamespace(minimum=1, maximum=16)
CHOICE = SimpleNamespace(choices=[("a", "a"), ("b", "b")])
TEXT = SimpleNamespace()


@pytest.mark.parametrize(
    ("component", "default", "text", "value"),
    [
        (SLIDER, 4, "7", 7),
        (SLIDER, 4, "7.9", 7),
        (SLIDER, 4.0, "7.5", 7.5),
        (SLIDER, 4, "17", 4),
        (SLIDER, 4, "-1e400", 4),
        (SLIDER, 4.0, "nan", 4.0),
        (SLIDER, 4, "many", 4),
        (CHOICE, "a", "b", "b"),
        (CHOICE, "a", "../b", "a"),
        (CHOICE, ["a"], "a,b", ["a", "b"]),
        (CHOICE, ["a"], "c,b", ["b"]),
        (CHOICE, ["a"], "c", ["a"]),
        (TEXT, True, "false", False),
        (TEXT, "a circle", "a red square", "a red square"),
        (TEXT, "", "x" * 900, "x" * 500),
    ],
)
def test_a_value_comes_back_where_it_fits(component: Any, default: Any, text: str, value: Any) -> None:
    assert from_query({"name": text}, "name", component, default) == value
    assert from_query({}, "name", component, default) == default
