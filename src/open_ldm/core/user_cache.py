"""The user's cache folder, and numbers in it that were measured once on this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from open_ldm.core.errors import DiskError
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json


def user_cache(name: str) -> Path:
    """Return where something is remembered between runs on this machine, as XDG_CACHE_HOME names it where that is absolute."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "open-ldm" / name


def machine_file(name: str) -> Path:
    """Return the file of numbers of one kind, such as `peak`."""
    return user_cache(f"{name}.json")


def read_numbers(name: str) -> dict[str, float]:
    """Return the numbers of one kind by what they were measured with; none where the file is missing or damaged."""
    try:
        content = parse_json(machine_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def keep_number(name: str, measured_with: str, value: float) -> None:
    """Keep a number of one kind beside the others; a folder that refuses is no error."""
    with suppress(OSError, DiskError):
        machine_file(name).parent.mkdir(parents=True, exist_ok=True)
        write_json(machine_file(name), {**read_numbers(name), measured_with: value})
