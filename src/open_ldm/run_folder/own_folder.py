"""A folder that one command fills, run after run: never that of a training, nor one that holds somebody else's things."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.run_folder.folder import is_run

_FIX = "choose another --out"


def require_no_run(out: Path, what: str) -> None:
    """Refuse a folder in which a command's files would lie among those of a training, or in their place.

    Args:
        out: Where the command writes.
        what: What it writes, such as "study".

    Raises:
        ConfigError: It is a file, or the folder of a training run.
    """
    if out.is_file():
        raise ConfigError(f"--out {out} is a file", needed="the path of a folder", fix=_FIX)
    if is_run(out):
        raise ConfigError(f"{out} is the folder of a training run", needed=f"a folder of its own for the {what}", fix=_FIX)


def require_own_folder(out: Path, what: str, own: Collection[str]) -> None:
    """Refuse a folder that a command would fill beside what others put there.

    Args:
        out: Where the command writes. It may be new, empty, or begun by the same command.
        what: What it writes, such as "study".
        own: Names of files and folders by which it knows its own.

    Raises:
        ConfigError: As `require_no_run`; or it holds something, and nothing of these.
    """
    there = {one.name for one in out.iterdir() if not one.name.startswith(".")} if out.is_dir() else set()
    if there & set(own):
        return
    require_no_run(out, what)
    if there:
        raise ConfigError(f"{out} is not empty and holds no {what}", needed=f"a new folder, or that of a {what}", fix=_FIX)
