"""The recipes that come with the package."""

from __future__ import annotations

from importlib import resources

from open_ldm.core.errors import ConfigError, nearest

_FOLDERS = {"": "recipes", "autoencoder": "recipes/autoencoder"}
"""Where the recipes of `ldm train` and of `ldm autoencoder train` lie inside the package."""


def packaged(what: str = "") -> list[str]:
    """List the names of the recipes that come with the package: those of `ldm train`, or of `ldm WHAT train`."""
    folder = resources.files("open_ldm") / _FOLDERS[what]
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def all_packaged() -> list[str]:
    """List the names of all recipes that come with the package."""
    return sorted(name for what in _FOLDERS for name in packaged(what))


def recipe_text(name: str) -> str:
    """Read the text of a packaged recipe with its comments. Raises ConfigError for an unknown name."""
    for what, folder in _FOLDERS.items():
        if name in packaged(what):
            return (resources.files("open_ldm") / folder / f"{name}.yaml").read_text(encoding="utf-8")
    raise ConfigError(f"there is no packaged recipe {name!r}", needed=nearest(name, all_packaged(), listed_by="ldm recipes"))


def about(name: str) -> str:
    """Read what a packaged recipe is for: the first line of its opening comment."""
    first = recipe_text(name).splitlines()[0]
    return first.removeprefix("#").strip()
