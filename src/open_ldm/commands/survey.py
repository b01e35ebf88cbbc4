"""`ldm data survey`: what a data set holds."""

from __future__ import annotations

from pathlib import Path

from open_ldm.commands.evaluate.reference import open_pictures
from open_ldm.data.loader import DataConfig
from open_ldm.data.sources import open_source
from open_ldm.data.survey import DataSurvey, survey


def survey_data(data: DataConfig | Path, *, decode: bool = False) -> DataSurvey:
    """Survey the data of a recipe, all parts of it, or a folder or shards of pictures; `decode` also decodes every picture.

    Raises:
        ConfigError: There is no such data.
        DataError: None of the pictures can be read.
    """
    return survey(open_source(data.source) if isinstance(data, DataConfig) else open_pictures(data), decode=decode)
