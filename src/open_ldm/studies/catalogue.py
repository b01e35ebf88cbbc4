"""All studies by name."""

from __future__ import annotations

from collections.abc import Mapping

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.studies.declared import (
    architectures,
    control_parametrisation,
    text_padding,
    which_controls,
)
from open_ldm.studies.study import Study

STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        architectures.STUDY,
        control_parametrisation.STUDY,
        which_controls.STUDY,
        text_padding.STUDY,
    )
}


def study_of(name: str) -> Study:
    """A study. Raises ConfigError for an unknown name."""
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}", needed=nearest(name, STUDIES))
    return STUDIES[name]
