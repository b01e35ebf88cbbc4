"""`ldm sample`: wishes -> PNG files, one grid, and samples.json that says how each picture was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, DiskError, nearest
from open_ldm.core.files import write_json
from open_ldm.core.pictures import grid, save_png, to_picture, to_pixels
from open_ldm.runs.load import LoadedRun
from open_ldm.runs.wishes import Wish
from open_ldm.sampling.generate import SamplingConfig

_GRID_COLUMNS = 8


@dataclass(frozen=True)
class SampledFolder:
    """What was written."""

    folder: Path
    grid: Path
    pictures: tuple[Path, ...]


def wishes_from(
    run: LoadedRun, prompts: Sequence[str], classes: Sequence[str], count: int, seed: int, controls: Mapping[str, str]
) -> list[Wish]:
    """`count` pictures for each prompt or class, with seeds `seed`, `seed` + 1, ... for each of them.

    Raises ConfigError when a prompt is given to a class model, or the reverse.
    """
    semantic = run.recipe.conditioning.semantic
    if prompts and not isinstance(semantic, TextSemantic):
        fix = f"--class {run.known.facts.class_names[0]!r}" if isinstance(semantic, ClassSemantic) else "leave it out"
        raise ConfigError("--prompt was given, but this model was not trained with captions", fix=fix)
    if classes and not isinstance(semantic, ClassSemantic):
        fix = "--prompt TEXT" if isinstance(semantic, TextSemantic) else "leave it out"
        raise ConfigError("--class was given, but this model was not trained with classes", fix=fix)
    shown: Sequence[str | None] = prompts or classes or [None]
    if not prompts and not classes and not isinstance(semantic, NoSemantic):
        shown = _default_shown(run)
    return [Wish(seed + i, what, controls) for what in shown for i in range(count)]


def _default_shown(run: LoadedRun) -> Sequence[str | None]:
    """Without a prompt: every class once if there are few, else nothing is said."""
    names = run.known.facts.class_names
    return names if 0 < len(names) <= 32 else [None]


def settings_from(
    run: LoadedRun,
    steps: int | None = None,
    solver: str | None = None,
    semantic_scale: float | None = None,
    control_scale: float | None = None,
) -> SamplingConfig:
    """The run's sampling settings with the command line's changes."""
    content = run.recipe.sampling.model_dump()
    guidance = content["guidance"]
    guidance |= _given(semantic_scale=semantic_scale, control_scale=control_scale)
    if guidance["semantic_scale"] == guidance["control_scale"] == 1:
        content["guidance"] = {}  # without guidance its interval and schedule mean nothing
    return validate(SamplingConfig, content | _given(steps=steps, solver=solver), source="ldm sample")


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def draw(
    run: LoadedRun, wishes: Sequence[Wish], settings: SamplingConfig, on_step: Callable[[int], None] | None = None
) -> Tensor:
    """Pixels uint8 [N, 3, H, W], one picture per wish."""
    inputs = run.inputs_for(wishes)
    return to_pixels(run.generator.images(inputs, [wish.seed for wish in wishes], settings, on_step))


def write_samples(run: LoadedRun, wishes: Sequence[Wish], pixels: Tensor, settings: SamplingConfig, out: Path) -> SampledFolder:
    """Write the PNGs, grid.png and samples.json into `out`. Raises DiskError when the disk refuses."""
    paths = [out / f"{index:05d}.png" for index in range(len(wishes))]
    try:
        for path, one in zip(paths, pixels, strict=True):
            save_png(path, to_picture(one))
        captions = [wish.shows or "" for wish in wishes]
        save_png(out / "grid.png", grid(pixels, _GRID_COLUMNS, captions=captions if any(captions) else None))
        content = {
            "run": str(run.path),
            "samples_seen": run.samples_seen,
            "passed_over": list(run.problems),
            "sampling": settings.model_dump(mode="json"),
            "pictures": [
                {"file": path.name, "seed": wish.seed, "shows": wish.shows, "controls": dict(wish.controls)}
                for path, wish in zip(paths, wishes, strict=True)
            ],
        }
        write_json(out / "samples.json", content)
    except OSError as error:
        raise DiskError(f"cannot write to {out}: {error.strerror}", fix="choose another --out") from error
    return SampledFolder(out, out / "grid.png", tuple(paths))


def read_controls(texts: Sequence[str], run: LoadedRun) -> dict[str, str]:
    """`size=64x64`-like arguments as option -> value; raises ConfigError for unknown or malformed ones."""
    options = [control.option for control in run.recipe.conditioning.controls]
    found = {}
    for text in texts:
        option, separator, value = text.partition("=")
        if not separator or option not in options:
            known = nearest(option, options) if options else "this model was trained without controls"
            raise ConfigError(f"control {text!r} is not known", needed=f"name=value; {known}")
        found[option] = value
    return found
