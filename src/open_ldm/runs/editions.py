"""Runs, studies and the demo keep the editions of the packaged recipes that they were begun with: the same command goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from open_ldm.core.config import read_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.begun import begun_settings
from open_ldm.runs.catalogue import all_packaged, editions
from open_ldm.runs.named import Named

R = TypeVar("R", bound=Named)


def as_edition_begun(asked: R, out: Path, at: Callable[[int], R]) -> tuple[R, list[str]]:
    """Choose the edition of a recipe that trains in a folder: that of the run there, where it is an earlier one.

    What the user changed stays as the command says it: changes that the run was not begun with are refused as ever.

    Args:
        asked: The recipe as the command names it.
        out: The run folder; it may be new.
        at: Gives the same recipe with the same changes at another edition. Raises ConfigError where there is none.

    Returns:
        The recipe to train, and what the user should know of it, a line each.
    """
    if asked.edition == 1:
        return asked, []
    try:
        begun = _begun(RunFolder(out)) or {}
        edition = begun.get("edition", 1)
        if begun.get("name") != asked.name or not isinstance(edition, int) or edition >= asked.edition:
            return asked, []
        before = at(edition)
    except ConfigError:  # the training says what is wrong with the folder, or with changes that only the newest can take
        return asked, []
    if before.edition != edition:  # the command names an edition, and not that of the run
        return asked, []
    told = (
        f"{out} was begun under edition {edition} of {asked.name} and goes on with its own recipe;"
        f" another --out takes edition {asked.edition}"
    )
    return before, [told]


def earlier_edition(recipe: str, runs: Iterable[Path]) -> int | None:
    """Find the earliest edition that trainings of a recipe were begun with.

    Args:
        recipe: As it is named; only a packaged name without an edition can have moved on.
        runs: Their folders.

    Returns:
        It; None where nothing was begun, or under the newest edition alone.
    """
    known = editions(recipe) if recipe in all_packaged() else []
    begun = {_edition_of(run) for run in runs} if len(known) > 1 else set()
    return next((edition for edition in known[:-1] if edition in begun), None)


def note_on_edition(out: Path, recipe: str, edition: int) -> str:
    """Say that the folder `out` goes on with an earlier edition."""
    return (
        f"{out} was begun under edition {edition} of {recipe} and goes on with that;"
        f" another --out takes edition {editions(recipe)[-1]}"
    )


def _begun(folder: RunFolder) -> Mapping[str, Any] | None:
    """The settings of the run in a folder, of one in stages those of the whole; None before a first checkpoint."""
    if (begun := begun_settings(folder)) is not None:
        return begun[0]
    saved = any(part.path != folder.path and begun_settings(part) is not None for part in folder.parts)
    return read_yaml(folder.config) if saved and folder.config.is_file() else None


def _edition_of(run: Path) -> int | None:
    """The edition that a training was begun with; None before its first checkpoint, or where its folder is damaged."""
    try:
        begun = begun_settings(RunFolder(run))
    except ConfigError:  # the training says what is wrong with it
        return None
    edition = None if begun is None else begun[0].get("edition", 1)
    return edition if isinstance(edition, int) else None
