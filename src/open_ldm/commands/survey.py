"""`ldm data survey`: what a data set holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from open_ldm.commands.evaluate.stored_pictures import are_samples, open_pictures
from open_ldm.commands.guess import with_guess
from open_ldm.controls.base import Control
from open_ldm.controls.data import check_controls, survey_for
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey, survey
from open_ldm.data.transforms import TransformConfig
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe, load_any_recipe
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.recipe_files import is_array
from open_ldm.sources import open_source


def data_named(given: str, overrides: Sequence[str], *, duplicates: bool = False) -> Recipe | AutoencoderRecipe | Path:
    """Return what there is to survey where a recipe, or pictures in its place, are named.

    Args:
        given: A packaged recipe's name, a YAML file, a run folder, pictures without a recipe, or an .npz array of them.
        overrides: Changes to the recipe, which for pictures is a guess that is printed.
        duplicates: Whether pictures that are there twice will be looked for too, which goes by a recipe.

    Returns:
        The recipe; or the path of an array, or of what `ldm sample` wrote, neither of which is trained on.

    Raises:
        ConfigError: Nothing of that name is there, or the changes have no effect.
        DataError: The pictures cannot be read.
    """
    path = Path(given).expanduser()
    if is_array(given):
        options = [*(["settings"] if overrides else []), *(["--duplicates"] if duplicates else [])]
        if options:
            have = "has" if options == ["--duplicates"] else "have"
            raise ConfigError(f"{' and '.join(options)} {have} no effect on the array of {given}", fix="leave them out")
        return path
    if are_samples(path) and not overrides and not duplicates:
        return path
    return load_any_recipe(*with_guess(given, overrides))


def survey_data(data: Recipe | AutoencoderRecipe | Path, *, decode: bool = False) -> DataSurvey:
    """Survey the data of a recipe (all parts, with what its controls read of them), or a folder or shards of pictures.

    `decode`: also decode every picture.

    Raises:
        ConfigError: There is no such data.
        DataError: None of the pictures can be read.
    """
    if isinstance(data, Path):
        return survey(open_pictures(data), decode=decode)
    controls = data.conditioning.controls if isinstance(data, Recipe) else ()
    transform = data.transform if isinstance(data, Recipe) else data.data.transform
    source = open_source(data.data.source)
    found = survey_for(controls, source, decode=decode, holdout=data.data.holdout, transform=transform)
    return replace(found, refusal=_refusal(controls, source, found, transform))


def _refusal(controls: Sequence[Control], source: Source, found: DataSurvey, transform: TransformConfig) -> str:
    """Why a training would refuse the data; empty where it would not."""
    try:
        check_controls(controls, source, found, transform)
    except (ConfigError, DataError) as error:
        return error.one_line()
    return ""
