"""The settings that a run was begun with. Its manifests are the authority: config.yaml may be lost, or edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.files import MANIFEST
from open_ldm.core.config import read_yaml
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.run_folder.folder import RunFolder

R = TypeVar("R")


def begun_settings(folder: RunFolder) -> tuple[dict[str, Any], str] | None:
    """Read the settings of the run that a folder holds.

    Args:
        folder: It may be new, or hold a run that has not saved yet.

    Returns:
        The recipe as plain data, of the newest manifest that verifies, and what errors call it; where no manifest does, that
        of config.yaml. None before a first checkpoint.
    """
    store = CheckpointFolder(folder.checkpoints, required=("recipe",))
    if not store.names():
        return None
    try:
        newest, _ = store.newest(groups=())
    except CheckpointError:
        newest = None  # loading a checkpoint says what is wrong with all of them
    if newest is not None:
        return dict(newest.content["recipe"]), f"{newest.path.name}/{MANIFEST}"
    return (read_yaml(folder.config), str(folder.config)) if folder.config.is_file() else None


def parsed(parse: Callable[..., R], content: Mapping[str, Any], source: str) -> R:
    """Build the recipe that a manifest holds.

    Args:
        parse: `recipe_from` or its like.
        content: The recipe as plain data.
        source: What errors call it.

    Raises:
        CheckpointError: It cannot be used, for example because a later version wrote it.
    """
    try:
        return parse(content, (), source=source)
    except ConfigError as error:
        raise CheckpointError(error.problem, needed=error.needed, fix=error.fix) from error


def resolved_settings(path: Path) -> dict[str, Any] | None:
    """Read the recipe of a run folder, to train it or to start another from it.

    Returns:
        That of config.yaml, or of a manifest where there is none; None for a folder that is no run.
    """
    folder = RunFolder(path)
    if folder.config.is_file():
        return read_yaml(folder.config)
    begun = begun_settings(folder) if path.is_dir() else None
    return None if begun is None else begun[0]
