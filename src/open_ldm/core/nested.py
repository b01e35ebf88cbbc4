"""Values inside lists, mappings and dataclasses, such as what a module is called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any


def leaves(value: Any) -> Iterator[Any]:
    """Iterate over all that is no list, tuple, mapping or dataclass itself, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, one.name) for one in fields(value)]
    if isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Build the same value out of `change(leaf)` for each of its leaves."""
    if isinstance(value, dict):
        return {name: with_leaves(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_leaves(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{one.name: with_leaves(getattr(value, one.name), change) for one in fields(value)})
    return change(value)
