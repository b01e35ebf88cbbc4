"""The level: where a recipe stands at the end of its budget, and the files by which that is seen, with their SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.errors import DataError
from open_ldm.core.files import hash_file, write_json
from open_ldm.core.plain_data import parse_json

LEVEL = "level.json"


@dataclass(frozen=True)
class Level:
    """A frozen level.

    Attributes:
        recipe: The recipe that set it, with its changes, as a command would name them.
        measured: How: the settings of the measurement.
        seeds: Of its trainings.
        values: By metric: the mean over the seeds at the end of the budget.
        each: By metric: of each seed.
        files: By path inside the folder: SHA-256.
    """

    recipe: str
    measured: Mapping[str, Any]
    seeds: tuple[int, ...]
    values: Mapping[str, float]
    each: Mapping[str, tuple[float, ...]]
    files: Mapping[str, str]


def frozen_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a level but its own description, by path inside the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LEVEL)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def freeze(folder: Path, level: Level) -> None:
    """Write a level into its folder. Raises DiskError."""
    write_json(folder / LEVEL, asdict(level))


def read_level(folder: Path) -> Level | None:
    """Read the level of a folder; None where it has none yet.

    Raises:
        DataError: A file is not what it was when the level was frozen; the error names it.
    """
    file = folder / LEVEL
    if not file.is_file():
        return None
    content: Any = parse_json(file.read_text(encoding="utf-8"))
    now, then = frozen_files(folder), content["files"]
    if odd := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
        raise DataError(
            f"{folder / odd[0]} is not the file by which the level was frozen",
            needed="the files of level.json, to the byte",
            fix="restore it, or choose another --out and freeze a new level",
        )
    each = {name: tuple(values) for name, values in content["each"].items()}
    return Level(content["recipe"], content["measured"], tuple(content["seeds"]), content["values"], each, then)
