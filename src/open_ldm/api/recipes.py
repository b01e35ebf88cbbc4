"""Recipes from what Python has: names, paths, mappings and recipes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from open_ldm.api.arguments import Place
from open_ldm.api.boundary import in_python
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import assignments
from open_ldm.core.plain_data import plain_number
from open_ldm.runs import recipe as recipes
from open_ldm.runs.catalogue import is_packaged
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.recipe_files import recipe_content

RecipeLike = Place | Mapping[str, Any] | Recipe
"""A packaged recipe's name, the path of a YAML file or run folder, a run, plain data as in a YAML file, or a recipe."""

Override = str | Mapping[str, Any]
"""`"training.batch_size=64"` as on the command line, `{"training.batch_size": 64}` or `{"training": {"batch_size": 64}}`."""


@in_python
def load_recipe(recipe: RecipeLike, *overrides: Override) -> Recipe:
    """Load a recipe: all settings of a run, checked.

    Args:
        recipe: The name of a packaged recipe (`ldm recipes` lists them; NAME@K is edition K), the path of a YAML file or of a
            run folder, a run, a mapping with the content of such a file, or a recipe.
        *overrides: Changes, in their order: `"training.batch_size=64"`, or a mapping, `{"training": {"batch_size": 64}}`.

    Returns:
        The recipe, frozen; `recipe.training.batch_size` and the like are its settings.

    Raises:
        OpenLdmError: There is no such recipe, or a setting is unknown or out of range.
    """
    return at_edition(recipe, as_overrides(overrides))


def at_edition(recipe: RecipeLike, changes: Sequence[str], edition: int | None = None) -> Recipe:
    """Load a recipe as `load_recipe`; the packaged one that it names or extends at an edition, None for the newest.

    Raises:
        ConfigError: As there; or there is no such edition, or it is a recipe whose packaged one is not known.
    """
    if isinstance(recipe, Recipe):
        if edition is not None:
            return _packaged_as(recipe, changes, edition)
        if not changes:
            return recipe
        return recipes.recipe_from(recipe.model_dump(mode="json"), changes, source=f"recipe {recipe.name}")
    if isinstance(recipe, Mapping):
        content = plain(recipe)
        base = content.pop("extends", None)
        whole = content if base is None else {**recipe_content(str(base), edition), **content}
        return recipes.recipe_from(whole, changes, source=f"recipe {content.get('name', '')}".strip())
    return recipes.load_recipe(os.fspath(recipe), changes, edition)


def _packaged_as(recipe: Recipe, changes: Sequence[str], edition: int) -> Recipe:
    """A packaged recipe at another edition; one that was changed since it was loaded does not tell how."""
    if not is_packaged(recipe.name) or recipe != recipes.load_recipe(recipe.name):
        raise ConfigError(f"recipe {recipe.name} was changed since it was loaded", needed="its name and the changes")
    return recipes.load_recipe(recipe.name, changes, edition)


def as_overrides(overrides: Sequence[Override]) -> list[str]:
    """Return overrides as `a.b=c`, those of a mapping one for each of its values, in their order.

    Raises:
        ConfigError: A value has no form in YAML.
    """
    return [text for one in overrides for text in ([one] if isinstance(one, str) else assignments(plain(one)))]


def plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain data: paths as text, and configs as what they hold.

    Raises:
        ConfigError: A value has no form in YAML.
    """
    try:
        result: dict[str, Any] = json.loads(json.dumps(content, default=_plain_value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings that YAML cannot hold: {error}", needed="numbers, text, lists and mappings") from error
    return result


def _plain_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if (number := plain_number(value)) is not value:
        return number
    raise TypeError(f"a {type(value).__name__}")
