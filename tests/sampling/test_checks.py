"""Scales of guidance for conditions that a model does not have."""

from __future__ import annotations

import pytest

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import Flip
from open_ldm.controls.base import ViewShape
from open_ldm.core.errors import ConfigError
from open_ldm.model.spec import DataFacts
from open_ldm.sampling.checks import PIPELINE, Asked
from open_ldm.sampling.guidance import GuidanceConfig

FACTS = DataFacts(3, ViewShape(8, 8, 8), class_names=("a", "b"))
NOTHING, FLIPS = ConditioningConfig(), ConditioningConfig(controls=(Flip(),))
CLASSES = ConditioningConfig(semantic=ClassSemantic())


@pytest.mark.parametrize(
    ("conditioning", "scales", "said"),
    [
        (CLASSES, (None, 2.0), "control_scale 2 has no effect: this model has no controls; fix: leave it out"),
        (NOTHING, (3.0, None), "guidance_scale 3 has no effect: this model has no conditions"),
        (CLASSES, (3.0, 1.0), None),
        (FLIPS, (3.0, 2.0), None),  # the scale of what is shown leads away from pictures without controls
        (NOTHING, (2.5, 1.0), None),  # as its recipe has it
    ],
)
def test_a_scale_that_nothing_reads_is_refused(
    conditioning: ConditioningConfig, scales: tuple[float | None, float | None], said: str | None
) -> None:
    asked, own = Asked(conditioning, FACTS, PIPELINE), GuidanceConfig(semantic_scale=2.5)
    if said is None:
        asked.check_scales(*scales, own)
        return
    with pytest.raises(ConfigError, match=said):
        asked.check_scales(*scales, own)
