"""The recipes that come with the package, by name and edition.

A name is the newest edition of its recipe, `NAME@K` is edition K. The file of the newest one lies beside the others, those of
earlier ones in the folder `earlier` as NAME@K.yaml. A recipe's `edition` is 1 where its file says nothing. One that extends
another and has no edition of its own moves with that: its edition K is the same file on edition K of what it extends.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from open_ldm.core.errors import ConfigError, nearest

_ROOT: Traversable = resources.files("open_ldm")
_FOLDERS = {"": "recipes", "autoencoder": "recipes/autoencoder"}
"""Where the recipes of `ldm train` and of `ldm autoencoder train` lie inside the package."""
_EARLIER = "earlier"
_EDITION = re.compile(r"^edition: *(\d+) *(?:#.*)?$", re.MULTILINE)
_EXTENDS = re.compile(r"^(extends: *)(\S+)", re.MULTILINE)


def packaged(what: str = "") -> list[str]:
    """List the names of the recipes that come with the package: those of `ldm train`, or of `ldm WHAT train`."""
    return sorted(_names(_ROOT / _FOLDERS[what]))


def all_packaged() -> list[str]:
    """List the names of all recipes that come with the package."""
    return sorted(name for what in _FOLDERS for name in packaged(what))


def is_packaged(given: str) -> bool:
    """Return whether what stands in the place of a recipe is a packaged name, or NAME@K of one, there or not.

    A file or folder whose own name looks like a wrong edition, such as demo@1.yaml, is what it is.
    """
    name, separator, edition = given.partition("@")
    if "/" in given or name not in all_packaged():
        return False
    return not separator or edition in map(str, editions(name)) or not Path(given).exists()


def editions(name: str) -> list[int]:
    """List the editions of a packaged recipe, the newest last. Raises ConfigError for an unknown name."""
    folder, text = _folder_of(name), _newest_text(name)
    earlier = {int(number) for each in _names(folder / _EARLIER) for known, _, number in [each.partition("@")] if known == name}
    if own := _EDITION.search(text):
        return sorted({*earlier, int(own[1])})
    base = _base_of(text)
    return sorted({*earlier, *([1] if base is None else editions(base))})


def with_edition(name: str) -> str:
    """Return a packaged name as NAME@K, K its newest edition; one without others, and what is no packaged name, as it is."""
    known = editions(name) if name in all_packaged() else [1]
    return name if known == [1] else f"{name}@{known[-1]}"


def recipe_text(name: str) -> str:
    """Read the text of a packaged recipe with its comments.

    Args:
        name: NAME, or NAME@K for one edition; of a recipe that moves with what it extends, K then stands there too.

    Raises:
        ConfigError: There is no such recipe, or no such edition of it.
    """
    plain, separator, given = name.partition("@")
    if not separator:
        return _newest_text(name)
    known = editions(plain)
    if given not in map(str, known):
        raise ConfigError(
            f"there is no edition {given!r} of {plain}",
            needed=" or ".join(f"{plain}@{each}" for each in known),
            fix=f"{plain} is the newest",
        )
    file = _folder_of(plain) / _EARLIER / f"{name}.yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else _newest_text(plain)
    return text if _base_of(text) is None else _EXTENDS.sub(rf"\g<1>\g<2>@{given}", text)


def about(name: str) -> str:
    """Read what a packaged recipe is for: the first line of its opening comment."""
    first = recipe_text(name).splitlines()[0]
    return first.removeprefix("#").strip()


def _names(folder: Traversable) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")]


def _folder_of(name: str) -> Traversable:
    for what, folder in _FOLDERS.items():
        if name in packaged(what):
            return _ROOT / folder
    raise ConfigError(f"there is no packaged recipe {name!r}", needed=nearest(name, all_packaged(), listed_by="ldm recipes"))


def _newest_text(name: str) -> str:
    return (_folder_of(name) / f"{name}.yaml").read_text(encoding="utf-8")


def _base_of(text: str) -> str | None:
    """The recipe that a packaged one extends and moves with; None where it extends none, or one edition."""
    found = _EXTENDS.search(text)
    return None if found is None or "@" in found[2] else found[2]
