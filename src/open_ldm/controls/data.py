"""What the controls of a model and its data say to each other before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.controls.metadata import Metadata
from open_ldm.core.errors import DataError, shortened
from open_ldm.data.columns import columns_of
from open_ldm.data.holdout import HoldoutConfig
from open_ldm.data.measures import MEASURES, Measure
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey, survey
from open_ldm.data.transforms import TransformConfig


def measures_of(controls: Sequence[Control]) -> tuple[Measure, ...]:
    """Return what must be measured of each picture for these controls, always in the same order."""
    wanted = {name for control in controls for name in control.measures}
    return tuple(name for name in MEASURES if name in wanted)


def columns_of_controls(controls: Sequence[Control]) -> tuple[str, ...]:
    """Return the columns of metadata that these controls read, each once."""
    return tuple(dict.fromkeys(name for control in controls for name in control.columns_read))


def survey_for(
    controls: Sequence[Control],
    source: Source,
    limit: int = 2000,
    *,
    decode: bool = False,
    holdout: HoldoutConfig | None = None,
    transform: TransformConfig | None = None,
) -> DataSurvey:
    """Survey a data set with all that these controls read of it; the other arguments are those of `survey`."""
    listed = {control.column: control.values for control in controls if isinstance(control, Metadata)}
    words = {name: listed.get(name) for name in columns_of_controls(controls)}
    columns = {name: values if isinstance(values, tuple) else None for name, values in words.items()}
    measures = measures_of(controls)
    return survey(source, limit, measures, decode=decode, columns=columns, holdout=holdout, transform=transform)


def fit_controls(controls: Sequence[Control], view: ViewShape) -> tuple[Control, ...]:
    """Return the controls with what a model recorded of its data."""
    return tuple(control.fitted(view) for control in controls)


def require_known_categories(controls: Sequence[Control], view: ViewShape, source: Source) -> None:
    """Refuse data that hold categories by now with which a model was not built.

    Args:
        controls: The model's.
        view: What it recorded of its data.
        source: The data as they are now.

    Raises:
        DataError: A column whose categories were those of the data has others.
    """
    for control in controls:
        facts = view.column(control.column) if isinstance(control, Metadata) and control.values in (None, "auto") else None
        if facts is None or not facts.words or facts.name not in columns_of(source):
            continue
        if new := [word for word in columns_of(source)[facts.name].as_words().words if word not in facts.words]:
            raise DataError(
                f"column {facts.name!r} has values that this run was not started with: {shortened(new, 4)}",
                needed=f"the values {shortened(facts.words, 8)}",
                fix="remove these values, or start a new run with another --out",
            )


def standardised_as(view: ViewShape, other: ViewShape) -> ViewShape:
    """Return what a new model records, with numbers standardised as in the model that it starts from: equal values stay equal.

    Args:
        view: Of the new model.
        other: Of the model that it starts from.
    """

    def adopted(facts: ColumnFacts) -> ColumnFacts:
        """Return a column with the scale of the other data, where both are of one kind."""
        there = other.column(facts.name)
        if there is None or facts.scale is None or facts.scale != there.scale:
            return facts
        return replace(facts, mean=there.mean, std=there.std)

    return replace(view, columns=tuple(adopted(facts) for facts in view.columns))


def check_controls(controls: Sequence[Control], source: Source, seen: DataSurvey, transform: TransformConfig) -> None:
    """Let every control accept the data, or refuse it. Arguments and errors as `describe_views`."""
    for control in controls:
        control.check(source, seen, transform)


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
    check_controls(controls, source, seen, transform)
    typical = {name: found.quantiles.median for name, found in seen.measured.items() if found.quantiles is not None}
    return ViewShape(
        transform.height_px,
        transform.width_px,
        round(seen.short_side_px.median),
        typical_saturation=typical.get("saturation"),
        typical_brightness=typical.get("brightness"),
        columns=tuple(facts for control in controls if (facts := control.describe(source)) is not None),
        shapes=transform.shapes,
    )
