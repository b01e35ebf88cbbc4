"""What `ldm sample` is asked for, and the settings of sampling that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SamplingConfig, SolverName
from open_ldm.sampling.time_grid import Spacing


@dataclass(frozen=True)
class SampleOptions:
    """What to sample, and with which settings; None keeps the run's own setting.

    A model takes either prompts or classes, and a sweep excludes both.

    Attributes:
        prompts, classes: Each gets `count` pictures.
        class_index: Classes by their index, after those of `classes`.
        controls: Option -> value, such as size -> 96x96, in the form that `ldm sample` takes.
        count: Pictures of each prompt or class, at least 1.
        seed: Of the first picture, at least 0; the next has the next seed. Each prompt starts from this seed again.
        sweep: One prompt with choices, `a {red,blue} circle`: every variant of it with the same seeds, as a labelled table.
        negative_prompt: What guidance leads away from, instead of the empty caption.
        steps, solver, spacing, semantic_scale, control_scale: As `sampling` in a recipe.
        yes: A sweep may have any number of pictures.
        start: A picture to start from, instead of noise.
        strength: The time that it is noised to, in (0, 1]; None for `STRENGTH`.
    """

    prompts: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_index: tuple[int, ...] = ()
    controls: Mapping[str, str] = field(default_factory=dict)
    count: int = 4
    seed: int = 0
    sweep: str | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    solver: str | None = None
    semantic_scale: float | None = None
    control_scale: float | None = None
    spacing: str | None = None
    yes: bool = False
    start: Path | bytes | None = None
    strength: float | None = None


def checked_settings(run: LoadedRun, options: SampleOptions) -> SamplingConfig:
    """Return the run's sampling settings with what the options change. Raises ConfigError for a number out of range."""
    for name, value, least in (("count", options.count, 1), ("seed", options.seed, 0)):
        if value < least:
            raise ConfigError(f"{name} {value} is too small", needed=f"{least} or more")
    return settings_from(run, options.steps, options.solver, options.semantic_scale, options.control_scale, options.spacing)


def settings_from(
    run: LoadedRun,
    steps: int | None = None,
    solver: str | None = None,
    semantic_scale: float | None = None,
    control_scale: float | None = None,
    spacing: str | None = None,
) -> SamplingConfig:
    """Return the run's sampling settings with the given changes. Raises ConfigError for a value out of range."""
    for option, given, possible in (("--solver", solver, get_args(SolverName)), ("--spacing", spacing, get_args(Spacing))):
        if given is not None and given not in possible:
            raise ConfigError(f"{option} {given!r} is unknown", needed=nearest(given, possible))
    content = run.recipe.sampling.model_dump()
    guidance = content["guidance"]
    guidance |= _given(semantic_scale=semantic_scale, control_scale=control_scale)
    if guidance["semantic_scale"] == guidance["control_scale"] == 1:
        content["guidance"] = {}  # without guidance its interval and schedule mean nothing
    return validate(SamplingConfig, content | _given(steps=steps, solver=solver, spacing=spacing), source="ldm sample")


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
