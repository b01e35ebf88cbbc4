"""Controls of one's own: a recipe may name any subclass of Control that the program has defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from open_ldm.controls.base import Control

_PACKAGE = __name__.rpartition(".")[0]


def read_control(given: Any, packaged: Callable[[Any], Any]) -> Any:
    """Return the control that a recipe gives: one of this package, read by `packaged`, or one defined elsewhere.

    Raises:
        ValueError: The settings do not fit a control defined elsewhere, or its kind is one of this package's.
    """
    if isinstance(given, Control):
        return packaged(given) if _is_packaged(type(given)) else given
    own = own_controls()
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if kind not in own:
        return packaged(given)
    try:
        return own[kind].model_validate(given)
    except ValidationError as error:  # its places count from the control on, so pydantic could not tell where it stands
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def own_controls() -> dict[str, type[Control]]:
    """Return the controls defined outside this package by their kind; of two of one kind the one defined last.

    Raises:
        ValueError: A kind is also one of this package's.
    """
    classes = _subclasses(Control)
    packaged = {_kind(one) for one in classes if _is_packaged(one)}
    own = {_kind(one): one for one in classes if not _is_packaged(one)}
    if taken := sorted(own.keys() & packaged):
        raise ValueError(
            f"control kind {taken[0]!r} is one of open_ldm's own; needed: another kind for {own[taken[0]].__name__}"
        )
    return {kind: one for kind, one in own.items() if kind}


def _is_packaged(control: type[Control]) -> bool:
    return control.__module__.startswith(f"{_PACKAGE}.")


def _kind(control: type[Control]) -> str:
    """The kind that a control has by default; empty for a class without one, which no recipe can name."""
    return str(default) if isinstance(default := control.model_fields["kind"].default, str) else ""


def _subclasses(base: Any) -> list[type[Control]]:
    return [each for one in base.__subclasses__() for each in (one, *_subclasses(one))]
