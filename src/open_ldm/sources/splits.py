"""Splits of a data set: folders such as `train` and `test`, which are no classes."""

from __future__ import annotations

from pathlib import Path

from open_ldm.core.errors import ConfigError, DataError, nearest
from open_ldm.data.sample import printable
from open_ldm.sources.top_folders import TopFolders

_NAMES = frozenset(["train", "training", "test", "testing", "val", "valid", "validation", "dev"])


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split. Raises ConfigError, which names the folders there are, when it does not exist."""
    folder = root / split
    if folder.is_dir():
        return folder
    there = sorted(printable(item.name) for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    needed = nearest(split, there) if there else "a folder with folders in it"
    raise ConfigError(f"source.split={split}: {printable(str(root))} has no such folder", needed=needed)


def refuse_splits(root: Path, top: TopFolders, given: Path) -> None:
    """Raise DataError when the two or more top folders of a data set are all called like splits.

    Args:
        root: Where they were found.
        top: The top folders there.
        given: The folder that the user named, which may hold `root` alone.
    """
    if len(top.names) < 2 or not all(name.lower() in _NAMES for name in top.names):
        return
    first = top.inside + next((name for name in top.names if name.lower().startswith("train")), top.names[0])
    outside = f" and outside them {top.loose_words()}" if top.loose else ""
    split = (root / first).relative_to(given).as_posix()
    raise DataError(
        f"{printable(str(root))} holds the splits {', '.join(top.names)}{outside}, which are no classes",
        needed="one of them",
        fix=f"data.source.split={split}, or data.source.path={printable(str(root / first))}",
    )
