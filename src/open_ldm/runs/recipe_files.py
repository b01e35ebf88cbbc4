"""What a recipe says before it is resolved: a packaged one, a YAML file or a run folder, with what it extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from open_ldm.core.config import parse_yaml, read_yaml
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.catalogue import all_packaged, is_packaged, recipe_text


def recipe_content(name: str, edition: int | None = None, inside: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read the plain data of a recipe; a block it gives replaces that block of the recipe it extends.

    Args:
        name: NAME or NAME@K of a packaged recipe, or the path of a YAML file or a run folder. Its `extends` names a packaged
            recipe, or a file seen from the folder of that recipe.
        edition: Of the packaged recipe that it is or extends, where no @K names one; None for the newest.
        inside: Names of the recipes that extend this one.

    Returns:
        Nested settings, not yet validated.

    Raises:
        ConfigError: There is no such recipe or edition, or recipes extend each other in a circle.
    """
    if edition is not None and name in all_packaged():
        name = f"{name}@{edition}"
    content = _own_content(name)
    base = content.pop("extends", None)
    if base is None:
        return content
    base = _base_of(name, str(base))
    if base in inside:
        raise ConfigError(f"recipe {name} extends itself by way of {', '.join(inside)}", fix="remove one `extends`")
    return {**recipe_content(base, None if is_packaged(name) else edition, (*inside, base)), **content}


def _base_of(name: str, base: str) -> str:
    if is_packaged(base):
        return base
    given = Path(name).expanduser()
    folder = given if given.is_dir() else given.parent
    return str((folder / Path(base).expanduser()).resolve())


def _own_content(name: str) -> dict[str, Any]:
    if is_packaged(name):
        return parse_yaml(recipe_text(name), f"recipe {name}")
    path = Path(name).expanduser()
    if (content := resolved_settings(path)) is not None:
        return content
    if path.is_file():
        return read_yaml(path)
    raise ConfigError(
        f"there is no recipe {name!r}",
        needed=f"a YAML file, a run folder or a packaged recipe: {nearest(name, all_packaged(), listed_by='ldm recipes')}",
        fix=f"to train on the pictures in that folder, name a recipe and set data.source.path={name}" if path.is_dir() else "",
    )
