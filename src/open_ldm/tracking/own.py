"""Trackers defined outside the package: a recipe may name any subclass of Tracker that the running program has defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from open_ldm.core.config import first_problem
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.extras import require
from open_ldm.tracking.base import TrackedRun, Tracker

_PACKAGE = __name__.rpartition(".")[0]


class NotDefined(Tracker):
    """A tracker of which this program knows only the settings: a run that used it is still read, sampled and measured."""

    model_config = ConfigDict(extra="allow")

    def begin(self, run: TrackedRun) -> str:
        """Raise: it cannot track."""
        raise NotImplementedError

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Raise: it cannot track."""
        raise NotImplementedError

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Raise: it cannot track."""
        raise NotImplementedError

    def end(self, code: int | None) -> None:
        """Do nothing: it never began."""


def read_tracker(given: Any, packaged: Callable[[Any], Any]) -> Any:
    """Read a tracker that a recipe gives: one of this package, read by `packaged`, or one defined elsewhere.

    Args:
        given: Settings with a kind, or the kind alone.
        packaged: Reads a tracker of this package.

    Raises:
        ValueError: The settings do not fit.
    """
    if isinstance(given, Tracker):
        return given
    content = {"kind": given} if isinstance(given, str) else given
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind in _kinds(packaged=True):
        return packaged(content)
    own = _kinds(packaged=False).get(kind, NotDefined)
    try:
        return own.model_validate(content)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def check_trackers(trackers: Iterable[Tracker]) -> None:
    """Refuse trackers that cannot begin, before anything is made.

    Raises:
        ConfigError: A kind is not defined.
        MissingExtraError: A library is not installed.
    """
    for tracker in trackers:
        if isinstance(tracker, NotDefined):
            known = [*_kinds(packaged=True), *_kinds(packaged=False)]
            raise ConfigError(
                f"track names {tracker.kind!r}, which is no tracker",
                needed=nearest(tracker.kind, known),
                fix="train with one of your own from a program that defines it (docs/trackers-and-sharing.md)",
            )
        if tracker.library:
            require(tracker.library, extra="track")


def _kinds(*, packaged: bool) -> dict[str, type[Tracker]]:
    """The trackers of this package, or those defined outside, by kind; of two of one kind the one defined last counts."""
    found = {}
    for tracker in _subclasses(Tracker):
        kind = tracker.model_fields["kind"].default
        if isinstance(kind, str) and tracker.__module__.startswith(f"{_PACKAGE}.") == packaged:
            found[kind] = tracker
    return found


def _subclasses(base: Any) -> list[type[Tracker]]:
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]
