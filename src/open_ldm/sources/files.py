"""Finding all files below a folder, sorted, without hidden ones, pictures apart from the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.sample import printable


class NoSuchPath(ConfigError):  # noqa: N818 - the name says what is wrong
    """There is nothing at the path that a recipe names; a dry run continues without it."""


def moved(path: str | Path) -> str:
    """Return how to correct a path that does not exist. A run keeps its path as given, and some commands accept no other."""
    if Path(path).expanduser().is_absolute():
        return "check the path"
    return "start the command there (for a run: where it was trained), or give the full path"


@dataclass(frozen=True)
class FoundFiles:
    """Names relative to the folder, with forward slashes, sorted. `pictures` are recognised by their suffix."""

    pictures: tuple[str, ...]
    others: tuple[str, ...]

    def only_folder(self) -> str | None:
        """Return the one subfolder that contains all pictures, or None."""
        tops = {name.partition("/")[0] if "/" in name else None for name in self.pictures}
        return tops.pop() if len(tops) == 1 else None


def find_files(root: Path, suffixes: tuple[str, ...], *, skip_unreadable: bool = False) -> FoundFiles:
    """Find all files in `root` and the folders below, following links but entering no folder twice.

    Args:
        root: The folder.
        suffixes: Suffixes of pictures, in lower case.
        skip_unreadable: Leave out folders that cannot be read, where the files are for a note alone.

    Raises:
        DataError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{printable(str(error.filename))} cannot be read: {error.strerror}", fix="check its permissions")

    names: list[str] = []
    entered: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=None if skip_unreadable else refuse):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inside = Path(folder).relative_to(root)
        names += [(inside / name).as_posix() for name in files if not name.startswith(".")]
    names.sort()
    pictures = [name for name in names if name.lower().endswith(suffixes)]
    others = [name for name in names if not name.lower().endswith(suffixes)]
    return FoundFiles(tuple(pictures), tuple(others))
