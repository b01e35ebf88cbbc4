"""Controls defined outside the package: a recipe may name any subclass of Control that the running program has defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from open_ldm.controls.base import Control
from open_ldm.core.config import first_problem

_PACKAGE = __name__.rpartition(".")[0]


def read_control(given: Any, packaged: Callable[[Any], Any]) -> Any:
    """Read the control that a recipe gives: one of this package, read by `packaged`, or one defined elsewhere.

    Raises:
        ValueError: The settings do not fit a control defined elsewhere, or its kind is one of this package's.
    """
    if isinstance(given, Control):
        return packaged(given) if _is_packaged(type(given)) else given
    own = own_controls()
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in own:
        return packaged(given)
    try:
        return own[kind].model_validate(given)
    except ValidationError as error:  # its locations begin at the control, so pydantic would not report the whole path
        raise ValueError(first_problem(error)) from error


def own_controls() -> dict[str, type[Control]]:
    """Find the controls defined outside this package, by kind. Of two with the same kind the one defined last counts.

    Raises:
        ValueError: A kind is also one of this package's.
    """
    classes = _subclasses(Control)
    packaged = {_kind(control) for control in classes if _is_packaged(control)}
    own = {_kind(control): control for control in classes if not _is_packaged(control)}
    if taken := sorted(own.keys() & packaged):
        raise ValueError(
            f"control kind {taken[0]!r} is one of open_ldm's own; needed: another kind for {own[taken[0]].__name__}"
        )
    return {kind: control for kind, control in own.items() if kind}


def _is_packaged(control: type[Control]) -> bool:
    return control.__module__.startswith(f"{_PACKAGE}.")


def _kind(control: type[Control]) -> str:
    """Return the default kind of a control; empty for a class without one, which no recipe can name."""
    return str(default) if isinstance(default := control.model_fields["kind"].default, str) else ""


def _subclasses(base: Any) -> list[type[Control]]:
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]
