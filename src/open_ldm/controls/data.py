"""What the controls of a model and its data say to each other before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.controls.base import Control, ViewShape
from open_ldm.data.measures import MEASURES, Measure
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey
from open_ldm.data.transforms import TransformConfig


def measures_of(controls: Sequence[Control]) -> tuple[Measure, ...]:
    """Return what must be measured of each picture for these controls, always in the same order."""
    wanted = {name for control in controls for name in control.measures}
    return tuple(name for name in MEASURES if name in wanted)


def describe_views(controls: Sequence[Control], source: Source, seen: DataSurvey, transform: TransformConfig) -> ViewShape:
    """Describe the views of a data set to its model, once every control has accepted the data.

    Args:
        controls: The model's.
        source: The data set.
        seen: Its survey, with the measures of these controls.
        transform: How views are cut.

    Raises:
        ConfigError: A control cannot be learned from these data.
    """
    for control in controls:
        control.check(source, seen, transform)
    typical = {name: found.quantiles.median for name, found in seen.measured.items() if found.quantiles is not None}
    return ViewShape(
        transform.height_px,
        transform.width_px,
        round(seen.short_side_px.median),
        typical_saturation=typical.get("saturation"),
        typical_brightness=typical.get("brightness"),
    )
