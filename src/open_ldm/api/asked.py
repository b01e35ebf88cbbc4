"""What a call of `Run.sample` asks for, as the options that `ldm sample` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from open_ldm.commands.sample_options import SampleOptions
from open_ldm.sampling.requests import control_texts


def _indices(given: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if given is None else (given,) if isinstance(given, int) else tuple(given)


def asked_for(
    prompts: str | Sequence[str] | None,
    classes: str | int | Sequence[str | int] | None,
    class_index: int | Sequence[int] | None,
    controls: Mapping[str, str | float],
    count: int | None,
    seed: int,
    sweep: str | None,
    negative_prompt: str | None,
    yes: bool,
    view: str | None,
    start: str | Path | None,
    guide: str | Path | None,
) -> SampleOptions:
    """Say which pictures are asked for and what they start from; how they are sampled is left to the recipe."""
    count = (4 if sweep is None else 1) if count is None else count
    named = control_texts(controls)
    options = SampleOptions(
        _texts(prompts), _texts(classes), _indices(class_index), named, count, seed, sweep, negative_prompt, yes=yes
    )
    return _of_view(replace(options, start=_path(start), guide=_path(guide)), view)


def solved(
    options: SampleOptions,
    steps: int | None,
    solver: str | None,
    spacing: str | None,
    strength: float | None,
    semantic_scale: float | None,
    control_scale: float | None,
    guide_scale: float | None,
    rescale: float | None,
    batch_size: int | None,
) -> SampleOptions:
    """Say how the pictures are sampled; None leaves a setting to the recipe."""
    options = replace(options, steps=steps, solver=solver, spacing=spacing, strength=strength)
    options = replace(options, semantic_scale=semantic_scale, control_scale=control_scale, batch_size=batch_size)
    return replace(options, guide_scale=guide_scale, rescale=rescale)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _texts(given: str | int | Sequence[str | int] | None) -> tuple[str, ...]:
    """One or several as a tuple of texts; nothing as an empty one."""
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else (str(given),)


def _of_view(options: SampleOptions, view: str | None) -> SampleOptions:
    """The options for pictures of a shape, as `view` says it."""
    if view is None:
        return options
    return replace(options, aspect=view) if ":" in view else replace(options, view_size=view)
