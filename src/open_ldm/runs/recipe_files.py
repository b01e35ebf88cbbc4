"""What a recipe says before it is resolved: a packaged one, a YAML file or a run folder, with what it extends."""

from __future__ import annotations

import difflib
from itertools import islice
from pathlib import Path
from typing import Any

from open_ldm.core.config import parse_yaml, read_yaml
from open_ldm.core.errors import ConfigError, cut, nearest
from open_ldm.run_folder.folder import is_run
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.catalogue import all_packaged, is_packaged, recipe_text

_YAML = (".yaml", ".yml")
_PICTURES = (".tar", ".parquet", ".arrow")
_MOST_LOOKED_AT, _MOST_LETTERS = 1000, 200


def recipe_content(
    name: str, edition: int | None = None, inside: tuple[str, ...] = (), *, packaged: bool = True
) -> dict[str, Any]:
    """Read the plain data of a recipe; a block it gives replaces that block of the recipe it extends.

    Args:
        name: NAME or NAME@K of a packaged recipe, or the path of a YAML file or a run folder. Its `extends` names a packaged
            recipe, or a file seen from the folder of that recipe.
        edition: Of the packaged recipe that it is or extends, where no @K names one; None for the newest.
        inside: Names of the recipes that extend this one.
        packaged: Whether the packaged recipe that it extends counts too, or only what a user has written.

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
    if is_packaged(base) and not packaged:
        return content
    edition = None if is_packaged(name) else edition
    return {**recipe_content(base, edition, (*inside, base), packaged=packaged), **content}


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
    if path.is_dir():
        fix = f"to train on the pictures in that folder, name a recipe and set data.source.path={name}"
        raise ConfigError(f"there is no recipe {name!r}", needed=_needed(name, "a YAML file, a run folder"), fix=fix)
    raise _nothing(name, pictures=False)


def is_array(name: str) -> bool:
    """Whether an .npz file stands in the place of a recipe: pictures to survey and to compare with, not to train on."""
    path = Path(name).expanduser()
    return path.suffix.lower() == ".npz" and path.is_file()


def require_recipe_or_pictures(name: str) -> None:
    """Raise ConfigError where a name is neither a packaged recipe nor a path at which there is something to train on."""
    if is_array(name):
        raise ConfigError(
            f"{cut(name)} is an array of pictures, which `ldm evaluate` and `ldm data survey` read, and no training",
            needed="a folder of pictures, shards, a table, a recipe or a run folder",
        )
    if not is_packaged(name) and not Path(name).expanduser().exists():
        raise _nothing(name, pictures=True)


def _nothing(name: str, *, pictures: bool) -> ConfigError:
    """The error for a name of nothing; `pictures`: whether they could stand in the place of the recipe."""
    beside = _nearest_path(Path(name).expanduser(), pictures=pictures)
    kinds = f"{'a folder of pictures, ' if pictures else ''}a YAML file, a run folder"
    return ConfigError(
        f"there is no {'folder, file or ' if pictures else ''}recipe {cut(name)!r}",
        needed=_needed(name, kinds) if beside is None else f"{kinds} or a packaged recipe",
        fix="" if beside is None else f"did you mean {cut(str(beside))}?",
    )


def _needed(name: str, kinds: str) -> str:
    return f"{kinds} or a packaged recipe: {nearest(name, all_packaged(), listed_by='ldm recipes')}"


def _nearest_path(path: Path, *, pictures: bool) -> Path | None:
    """The path beside a wrong one whose name is like it: of a recipe or a run, or of anything that may hold pictures."""
    try:
        there = {one.name: one for one in islice(path.parent.iterdir(), _MOST_LOOKED_AT) if not one.name.startswith(".")}
    except OSError:
        return None
    for name in difflib.get_close_matches(path.name[:_MOST_LETTERS], there, n=len(there) or 1, cutoff=0.6):
        one = there[name]
        if one.suffix.lower() in (*_YAML, *(_PICTURES if pictures else ())) or (one.is_dir() and (pictures or is_run(one))):
            return path.with_name(name)
    return None
