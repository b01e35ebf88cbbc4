"""Leaving out of an exported folder where things lie on the machine that made it: paths of data, models and caches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json

_PLACES = ("path", "subfolder", "tokenizer_subfolder", "_name_or_path", "name_or_path")
"""Settings that say where something lies: of sources, autoencoders, text models, caches, and runs that a run started from."""
NOT_EXPORTED = "not exported"


def without_places(content: Any, instead: str = "") -> Any:
    """Return plain data without the values that say where something lies.

    Args:
        content: Settings, such as a recipe's.
        instead: What stands in the place of such a value. Null and empty text stay.

    Returns:
        The same, with every setting of a name such as `path`, and every text that is a path from the root or home, replaced.
    """
    if isinstance(content, Mapping):
        return {
            name: instead if name in _PLACES and isinstance(value, str) and value else without_places(value, instead)
            for name, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [without_places(value, instead) for value in content]
    return instead if isinstance(content, str) and _is_place(content) else content


def leave_out_places(folder: Path) -> None:
    """Do so in the JSON files that libraries wrote into a folder, such as the configs of text models."""
    for file in sorted(folder.rglob("*config.json")):
        content = parse_json(file.read_text(encoding="utf-8"))
        if (kept := without_places(content)) != content:
            write_json(file, kept)


def _is_place(text: str) -> bool:
    return text.startswith(("/", "~", "./", "../", "\\\\")) or text[1:3] in (":\\", ":/")
