"""What a call of `Run.sample` asks for, as the options that `ldm sample` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_ldm.api.arguments import Place, several
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.core.errors import ConfigError
from open_ldm.sampling.requests import control_texts


def asked_for(
    prompts: str | Sequence[str] | None,
    classes: str | int | Sequence[str | int] | None,
    class_index: int | Sequence[int] | None,
    controls: Mapping[str, str],
    count: int | None,
    seed: int,
    sweep: str | None,
    negative_prompt: str | None,
    yes: bool,
    view: str | None,
    start: Place | None,
    guide: Place | None,
) -> SampleOptions:
    """Say which pictures are asked for and what they start from; how they are sampled is left to the recipe."""
    count = (4 if sweep is None else 1) if count is None else count
    texts = tuple(map(str, _some("prompts", prompts)))
    options = SampleOptions(
        texts,
        tuple(map(str, _some("classes", classes))),
        tuple(_some("class_index", class_index)),
        controls,
        count,
        seed,
        sweep,
        negative_prompt,
        yes=yes,
    )
    return _of_view(replace(options, start=_path(start), guide=_path(guide)), view)


def together(controls: Mapping[str, object] | None, named: Mapping[str, object]) -> dict[str, str]:
    """Join values of controls in a mapping with those given as arguments. Raises ConfigError for one that is in both."""
    texts, named_texts = control_texts(controls or {}), control_texts(named)
    if twice := sorted(texts.keys() & named_texts.keys()):
        raise ConfigError(f"{twice[0]} is given twice, in controls and as an argument", needed="each control once")
    return texts | named_texts


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


def _path(given: Place | None) -> Path | None:
    return None if given is None else Path(given)


def _some(name: str, given: Any) -> list[Any]:
    """One or several as a list. Raises ConfigError for an empty one, which would be taken for nothing said."""
    if given is not None and not several(given):
        raise ConfigError(f"{name}={given!r} is empty", needed="one or more", fix="leave it out where any will do")
    return several(given)


def _of_view(options: SampleOptions, view: str | None) -> SampleOptions:
    """The options for pictures of a shape, as `view` says it."""
    if view is None:
        return options
    return replace(options, aspect=view) if ":" in view else replace(options, view_size=view)
