"""What the folders of checkpoints are called, and what their names tell."""

from __future__ import annotations

import re
from pathlib import Path

PREFIX = "samples-"
_NAME = re.compile(PREFIX + "[0-9]{12}")


def is_checkpoint(path: Path) -> bool:
    """Whether a path has the name of one checkpoint. A run folder may begin with the same word: `samples-of-cats` is none."""
    return _NAME.fullmatch(path.name) is not None


def samples_seen_of(name: str) -> int:
    """Return the samples seen that the name of a checkpoint states."""
    return int(name.removeprefix(PREFIX))


def run_folder_of(path: Path) -> Path:
    """Return the run folder that a path belongs to.

    Args:
        path: A run folder, or one of its checkpoints, RUN/checkpoints/samples-NUMBER.

    Returns:
        RUN.
    """
    return path.parent.parent if is_checkpoint(path) else path
