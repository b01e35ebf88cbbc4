"""`ldm sample`: requests -> PNG files, one grid, and samples.json that says how each picture was made.

Pictures of several channels of their own are written twice: as people are shown them, and as numbers that a source reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from open_ldm.commands.prompts import read_prompts, sweep_of
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.config import validate
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError, DiskError, nearest
from open_ldm.core.files import write_bytes, write_json
from open_ldm.core.pictures import grid, npy_bytes, save_png, to_picture, to_pixels
from open_ldm.data.sources import channels_of
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.text import TextEncoder

_GRID_COLUMNS = 8
GRID, SAMPLES = "grid.png", "samples.json"


@dataclass(frozen=True)
class Sheet:
    """Pictures to draw, in the order of the grid. Headers name what varies along it; without them captions stand below.

    `negative`: what guidance leads away from.
    """

    requests: tuple[SampleRequest, ...]
    columns: int = _GRID_COLUMNS
    row_headers: tuple[str, ...] | None = None
    column_headers: tuple[str, ...] | None = None
    negative: str | None = None


@dataclass(frozen=True)
class SampledFolder:
    """What was written. `numbers`: of pictures with channels of their own, .npy files of uint8 [H, W, C]."""

    folder: Path
    grid: Path
    pictures: tuple[Path, ...]
    numbers: tuple[Path, ...] = ()

    def sentence(self) -> str:
        """One line for people."""
        also = " (.png to look at, .npy with all channels)" if self.numbers else ""
        return f"{len(self.pictures)} pictures in {self.folder}{also}; all at once: {self.grid}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        content: dict[str, Any] = {"folder": str(self.folder), "grid": str(self.grid)}
        content["pictures"] = [str(path) for path in self.pictures]
        return content | ({"numbers": [str(path) for path in self.numbers]} if self.numbers else {})


def requests_from(
    run: LoadedRun, prompts: Sequence[str], classes: Sequence[str], count: int, seed: int, controls: Mapping[str, str]
) -> list[SampleRequest]:
    """`count` pictures for each prompt or class, with seeds `seed`, `seed` + 1, ... for each of them.

    Raises ConfigError when a prompt is given to a class model, or the reverse.
    """
    semantic = run.recipe.conditioning.semantic
    if prompts:
        _require_captions(run, "--prompt")
    if classes and not isinstance(semantic, ClassSemantic):
        fix = "--prompt TEXT" if isinstance(semantic, TextSemantic) else "leave it out"
        raise ConfigError("--class was given, but this model was not trained with classes", fix=fix)
    shown: Sequence[str | None] = prompts or classes or [None]
    if not prompts and not classes and not isinstance(semantic, NoSemantic):
        shown = _default_shown(run)
    return [SampleRequest(seed + i, what, controls) for what in shown for i in range(count)]


def sheet_of(
    run: LoadedRun,
    settings: SamplingConfig,
    requests: Sequence[SampleRequest] = (),
    sweep: str | None = None,
    negative: str | None = None,
) -> Sheet:
    """The requests, or every variant of the prompt `sweep` for each of them (which then say no prompt of their own).

    All variants in a row have the same seed, so that nothing but the words differs. Raises ConfigError when the model knows
    no captions, for a prompt it cannot say, and for a negative prompt that nothing would lead away from.
    """
    if negative is not None:
        _check_negative(run, negative, settings)
    if sweep is None:
        return Sheet(tuple(requests), negative=negative)
    _require_captions(run, "--sweep")
    table = sweep_of(sweep)
    for caption in table.captions:
        _encoder(run).check_prompt(caption)
    rows, drawn = [], []
    for number, name in enumerate(table.rows):
        captions = table.captions[number * len(table.columns) : (number + 1) * len(table.columns)]
        for request in requests:
            drawn += [replace(request, shows=caption) for caption in captions]
            seed = f"seed {request.seed}" if len(requests) > 1 else ""
            rows.append(", ".join(part for part in (name, seed) if part))
    return Sheet(tuple(drawn), len(table.columns), tuple(rows) if any(rows) else None, table.columns, negative)


def cut_prompts(run: LoadedRun, sheet: Sheet) -> list[str]:
    """The captions of a sheet, each once, whose end the text encoder leaves out."""
    if run.text_encoder is None:
        return []
    said = list(dict.fromkeys(filter(None, [*(request.shows for request in sheet.requests), sheet.negative])))
    return [caption for caption, cut in zip(said, run.text_encoder.cut(said), strict=True) if cut]


def prompts_in(run: LoadedRun, path: Path) -> list[str]:
    """The prompts of a file. Raises ConfigError for a model without captions, or naming the line that is wrong."""
    _require_captions(run, "--prompts")
    return read_prompts(path, _encoder(run))


def _check_negative(run: LoadedRun, negative: str, settings: SamplingConfig) -> None:
    _require_captions(run, "--negative-prompt")
    _encoder(run).check_prompt(negative)
    if not negative.strip():
        raise ConfigError("--negative-prompt is empty", needed="words: guidance leads away from no caption anyway")
    if settings.guidance.semantic_scale == 1:
        raise ConfigError("--negative-prompt has no effect without guidance", fix="--semantic-scale 2, or any other but 1")


def _require_captions(run: LoadedRun, option: str) -> None:
    semantic = run.recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        fix = f"--class {run.known.facts.class_names[0]!r}" if isinstance(semantic, ClassSemantic) else "leave it out"
        raise ConfigError(f"{option} was given, but this model was not trained with captions", fix=fix)


def _encoder(run: LoadedRun) -> TextEncoder:
    if run.text_encoder is None:
        raise ValueError("a text-conditional run has a text encoder")
    return run.text_encoder


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


def steps_of(sheet: Sheet, settings: SamplingConfig) -> int:
    """Solver steps that `draw` will report, over all batches."""
    return settings.steps * -(-len(sheet.requests) // settings.batch_size)


def draw(
    run: LoadedRun,
    requests: Sequence[SampleRequest],
    settings: SamplingConfig,
    on_step: Callable[[int], None] | None = None,
    negative: str | None = None,
) -> Tensor:
    """Pixels uint8 [N, C, H, W], one picture per request; guidance leads away from the prompt `negative`, if there is one."""
    inputs = run.build_inputs(requests)
    unwanted = None if negative is None else _encoder(run).encode([negative] * len(requests))
    return to_pixels(run.generator.images(inputs, [request.seed for request in requests], settings, on_step, unwanted))


def write_samples(run: LoadedRun, sheet: Sheet, pixels: Tensor, settings: SamplingConfig, out: Path) -> SampledFolder:
    """Write the pictures, grid.png and samples.json into `out`. Raises DiskError when the disk refuses."""
    requests = sheet.requests
    channels = channels_of(run.recipe.data.source)
    paths = [out / f"{index:05d}.png" for index in range(len(requests))]
    numbers = [] if channels in (None, 1) else [path.with_suffix(".npy") for path in paths]
    seen = as_shown(pixels, run.recipe.data.display)
    try:
        for path, one in zip(paths, seen, strict=True):
            save_png(path, to_picture(one).convert("L") if channels == 1 else to_picture(one))
        for path, one in zip(numbers, pixels, strict=bool(numbers)):
            write_bytes(path, npy_bytes(one))
        save_png(out / GRID, _grid_of(sheet, seen))
        content = {
            "run": str(run.path),
            "samples_seen": run.samples_seen,
            "passed_over": list(run.problems),
            "sampling": settings.model_dump(mode="json"),
            "negative_prompt": sheet.negative,
            "pictures": [
                {
                    "file": path.name,
                    **({"numbers": path.with_suffix(".npy").name} if numbers else {}),
                    "seed": request.seed,
                    "shows": request.shows,
                    "controls": dict(request.controls),
                }
                for path, request in zip(paths, requests, strict=True)
            ],
        }
        write_json(out / SAMPLES, content)
    except OSError as error:
        raise DiskError(f"cannot write to {out}: {error.strerror}", fix="choose another --out") from error
    return SampledFolder(out, out / GRID, tuple(paths), tuple(numbers))


def _grid_of(sheet: Sheet, pixels: Tensor) -> Image:
    captions = [request.shows or "" for request in sheet.requests]
    if sheet.column_headers is None and any(captions):
        return grid(pixels, sheet.columns, captions=captions)
    return grid(pixels, sheet.columns, row_headers=sheet.row_headers, column_headers=sheet.column_headers)


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
