"""`ldm data survey`: what a data set holds."""

from __future__ import annotations

from pathlib import Path

from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.controls.data import survey_for
from open_ldm.data.survey import DataSurvey, survey
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe
from open_ldm.runs.recipe import Recipe
from open_ldm.sources import open_source


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
    return survey_for(controls, source, decode=decode, holdout=data.data.holdout, transform=transform)
