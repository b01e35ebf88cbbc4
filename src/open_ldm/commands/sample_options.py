"""What `ldm sample` is asked for, and the settings of sampling that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.checks import Asked
from open_ldm.sampling.generate import SamplingConfig, changed_settings


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
        batch_size: Pictures at once, as there.
        guide: A run folder, or one checkpoint, whose model guides this one (sampling/autoguidance.py).
        guide_scale, rescale: As `sampling.guidance` in a recipe.
        yes: A sweep may have any number of pictures.
        start: A picture to start from, instead of noise.
        strength: The time that it is noised to, in (0, 1]; None for `STRENGTH`.
        view_size, aspect: Shape of the pictures of a model that was trained in buckets: HEIGHTxWIDTH, or WIDTH:HEIGHT.
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
    batch_size: int | None = None
    yes: bool = False
    start: Path | bytes | None = None
    strength: float | None = None
    view_size: str | None = None
    aspect: str | None = None
    guide: Path | None = None
    guide_scale: float | None = None
    rescale: float | None = None


def checked_settings(run: LoadedRun, options: SampleOptions) -> SamplingConfig:
    """Return the run's sampling settings with what the options change. Raises ConfigError for a number out of range."""
    for name, value, least in (("count", options.count, 1), ("seed", options.seed, 0)):
        if value < least:
            raise ConfigError(f"{name} {value} is too small", needed=f"{least} or more")
    scales = options.semantic_scale, options.control_scale
    Asked(run.recipe.conditioning, run.known.facts).check_scales(*scales, run.recipe.sampling.guidance)
    return changed_settings(
        run.recipe.sampling,
        options.steps,
        options.solver,
        *scales,
        options.spacing,
        options.batch_size,
        _guide_scale(run, options),
        options.rescale,
    )


def _guide_scale(run: LoadedRun, options: SampleOptions) -> float | None:
    """The scale of the guide. Raises ConfigError for a guide without a scale, or a scale without a guide."""
    scale = run.recipe.sampling.guidance.guide_scale if options.guide_scale is None else options.guide_scale
    if options.guide is not None and scale == 1:
        raise ConfigError(f"--guide {options.guide} has no effect while its scale is 1", fix="add --guide-scale 2, say")
    if options.guide is None and scale != 1:
        raise ConfigError(f"--guide-scale {scale:g} without a guide", needed="--guide RUN", fix="name one, or leave it out")
    return options.guide_scale


def settings_from(
    run: LoadedRun,
    steps: int | None = None,
    solver: str | None = None,
    semantic_scale: float | None = None,
    control_scale: float | None = None,
    spacing: str | None = None,
    batch_size: int | None = None,
) -> SamplingConfig:
    """Return the run's sampling settings with the given changes; errors as `changed_settings`."""
    return changed_settings(run.recipe.sampling, steps, solver, semantic_scale, control_scale, spacing, batch_size)
