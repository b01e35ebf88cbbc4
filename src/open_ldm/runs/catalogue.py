"""The recipes that come with the package."""

from __future__ import annotations

from importlib import resources

from open_ldm.core.errors import ConfigError, nearest


def packaged() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("open_ldm") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The text of a packaged recipe, comments and all. Raises ConfigError for an unknown name."""
    if name not in packaged():
        raise ConfigError(f"unknown recipe {name!r}", needed=nearest(name, packaged()))
    return (resources.files("open_ldm") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def about(name: str) -> str:
    """What a packaged recipe is for: the first line of its opening comment."""
    first = recipe_text(name).splitlines()[0]
    return first.removeprefix("#").strip()
