"""All studies by name, in the order of the paper."""

from __future__ import annotations

from collections.abc import Mapping

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.studies.declared import (
    adam_betas,
    architectures,
    control_parametrisation,
    curves,
    data_transfer,
    grids,
    guidance,
    resolution_transfer,
    size_at_inference,
    text_padding,
    token_influence,
    which_controls,
)
from open_ldm.studies.study import Study

STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        architectures.STUDY,
        control_parametrisation.STUDY,
        size_at_inference.STUDY,
        which_controls.STUDY,
        text_padding.STUDY,
        data_transfer.STUDY,
        resolution_transfer.STUDY,
        guidance.STUDY,
        grids.SIZE_GRID,
        curves.GATES,
        curves.POSITIONS,
        grids.FLIP_GRID,
        curves.SCHEDULES,
        adam_betas.STUDY,
        token_influence.STUDY,
    )
}


def study_of(name: str) -> Study:
    """A study. Raises ConfigError for an unknown name."""
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}", needed=nearest(name, STUDIES, listed_by="ldm study list"))
    return STUDIES[name]
