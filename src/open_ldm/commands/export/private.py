"""Leaving out of an exported folder where things lie on the machine that made it: paths of data, models and caches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json

_PLACES = ("path", "subfolder", "tokenizer_subfolder", "_name_or_path", "name_or_path")
"""Settings that say where something lies: of sources, autoencoders, text models and caches."""
_OF_ADDRESSES = "remote"
"""Settings of how an address is read, which without the address have no effect and are refused."""
NOT_EXPORTED = "not exported"


def without_places(content: Any, instead: str = "") -> Any:
    """Return plain data without the values that say where something lies.

    Args:
        content: Settings, such as a recipe's.
        instead: What stands in the place of such a value. Null and empty text stay.

    Returns:
        The same, with every setting of a name such as `path`, and every text that is a path from the root or home, replaced;
        without settings of how the address of such a `path` is read.
    """
    if isinstance(content, Mapping):
        kept = (name for name in content if name != _OF_ADDRESSES or not _is_named_place("path", content.get("path")))
        return {name: _without_place(name, content[name], instead) for name in kept}
    if isinstance(content, list | tuple):
        return [without_places(value, instead) for value in content]
    return instead if isinstance(content, str) and _is_place(content) else content


def _without_place(name: str, value: Any, instead: str) -> Any:
    if name == "init_from":
        return None  # its source is a run or a file of the machine
    return instead if _is_named_place(name, value) else without_places(value, instead)


def _is_named_place(name: str, value: Any) -> bool:
    return name in _PLACES and isinstance(value, str) and bool(value)


def leave_out_places(folder: Path) -> None:
    """Do so in the JSON files that libraries wrote into a folder, such as the configs of text models."""
    for file in sorted(folder.rglob("*config.json")):
        content = parse_json(file.read_text(encoding="utf-8"))
        if (kept := without_places(content)) != content:
            write_json(file, kept)


def _is_place(text: str) -> bool:
    """Whether a text is a path from the root, home or the working folder; '/' or '~' alone may be a token."""
    rooted = text.startswith(("/", "~/", "./", "../", "\\\\")) or text[1:3] in (":\\", ":/")
    return rooted and any(map(str.isalnum, text))
