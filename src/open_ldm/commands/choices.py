"""What a user can choose from, in words for help texts: read from the unions, so that a new member is listed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from open_ldm.commands.evaluate.config import AnyMetric
from open_ldm.commands.evaluate.evaluate import DEFAULT_METRICS
from open_ldm.controls import ControlConfig
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.sampling.generate import SolverName
from open_ldm.sampling.time_grid import Spacing


def members_of(union: Any) -> list[type[Any]]:
    """Return the classes of a union, which may be annotated and nested, in the order of their declaration."""
    return list(dict.fromkeys(_classes(union)))


def kinds_of(union: Any) -> list[str]:
    """Return the `kind` of every config in a union."""
    return [member.model_fields["kind"].default for member in members_of(union)]


def _classes(annotation: Any) -> Iterator[type[Any]]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)


LISTS: Mapping[str, Callable[[], str]] = {
    "metrics": lambda: ", ".join(kinds_of(AnyMetric)),
    "default_metrics": lambda: ",".join(DEFAULT_METRICS),
    "extractors": lambda: ", ".join(kinds_of(FeatureConfig)),
    "controls": lambda: "; ".join(f"{control.option}={control.form}" for control in members_of(ControlConfig)),
    "solvers": lambda: ", ".join(get_args(SolverName)),
    "spacings": lambda: ", ".join(get_args(Spacing)),
}
"""The name in braces in a help text -> the words that replace it."""
