"""`ldm sample`: options -> requests -> pixels, which commands/samples.py shows and writes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from open_ldm.commands.guide import guide_record, guided_run
from open_ldm.commands.prompts import read_prompts, sweep_of
from open_ldm.commands.sample_options import SampleOptions, checked_settings
from open_ldm.commands.samples import Samples, Sheet, refuse_older
from open_ldm.commands.shape import run_of_shape
from open_ldm.commands.start_picture import start_of, start_record
from open_ldm.conditioning.semantic import NoSemantic
from open_ldm.core.device import DeviceName
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.events import Progress
from open_ldm.core.pictures import to_pixels
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.sampling.checks import Asked
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest, class_at, label_of
from open_ldm.sampling.solvers import OnStep
from open_ldm.sampling.start import Start
from open_ldm.text import TextEncoder


def open_run(path: Path, device: DeviceName = "auto") -> LoadedRun:
    """Load a run, or one checkpoint inside it; warn about damaged newer checkpoints. Raises as `load_run`."""
    run = SlowSteps()("loading the model, its autoencoder and its text encoder", load_run, path, device)
    for problem in run.problems:
        print(f"warning: checkpoint passed over: {problem}", file=sys.stderr)
    return run


def sample(
    run: LoadedRun,
    options: SampleOptions,
    *,
    into: Path | None = None,
    silent: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Samples:
    """Sample pictures from a run.

    Args:
        run: From `open_run`.
        options: Prompts or classes, controls, seeds and settings.
        into: The folder that the pictures will be written to, which is looked at before any is sampled.
        silent: Show no progress.
        on_step: Called with the number of solver steps done, of `steps_of`; an error that it raises ends sampling.

    Returns:
        The pictures; the same seed starts from the same noise.

    Raises:
        ConfigError: The model does not know a prompt, a class or a control, a setting is out of range, or `into` holds older
            pictures that would stay.
    """
    if options.sweep is not None and (options.prompts or options.classes or options.class_index):
        raise ConfigError(
            "--sweep was given together with prompts or classes",
            needed="one of them",
            fix="leave --prompt, --prompts and --class out",
        )
    run = guided_run(run_of_shape(run, options.view_size, options.aspect), options.guide)
    settings = checked_settings(run, options)
    requests = requests_from(run, options.prompts, classes_of(run, options), options.count, options.seed, options.controls)
    sheet = sheet_of(run, settings, requests, options.sweep, options.negative_prompt, yes=options.yes)
    if into is not None:
        refuse_older(into, len(sheet.requests))
    start = start_of(run, options.start, options.strength)
    for caption in cut_prompts(run, sheet):
        print(f"warning: this caption is too long for the text encoder and was cut: {caption!r}", file=sys.stderr)
    with Progress(steps_of(sheet, settings), label="sample", unit="steps", silent=silent) as progress:

        def count(done: int) -> None:
            progress.update(done)
            if on_step is not None:
                on_step(done)

        images = sample_images(run, sheet.requests, settings, count, sheet.negative, start)
    return Samples.of(run, sheet, settings, images, start_record(options.start, start), guide_record(run, options.guide))


def classes_of(run: LoadedRun, options: SampleOptions) -> list[str]:
    """Return the names of the classes that are asked for. Raises ConfigError for a model without classes, or an unknown one."""
    facts = run.known.facts
    if options.class_index and not facts.class_names:
        raise ConfigError("--class-index was given, but this model was not trained with classes", fix="leave it out")
    return [*options.classes, *(class_at(index, facts) for index in options.class_index)]


def requests_from(
    run: LoadedRun, prompts: Sequence[str], classes: Sequence[str], count: int, seed: int, controls: Mapping[str, str]
) -> list[SampleRequest]:
    """Build `count` requests for each prompt or class, each time with the seeds `seed`, `seed` + 1, ....

    Raises:
        ConfigError: A prompt was given to a class model, or the reverse.
    """
    check_kind(run, prompts, classes)
    semantic = run.recipe.conditioning.semantic
    named = [class_at(label_of(name, run.known.facts), run.known.facts) for name in classes]
    shown: Sequence[str | None] = prompts or named or [None]
    if not prompts and not classes and not isinstance(semantic, NoSemantic):
        shown = _default_shown(run)
    return [SampleRequest(seed + i, what, controls) for what in shown for i in range(count)]


def check_kind(run: LoadedRun, prompts: Sequence[str], classes: Sequence[str]) -> None:
    """Raise ConfigError for prompts to a model without captions, or classes to one without classes."""
    asked_of(run).check_kind(prompts=bool(prompts), classes=bool(classes))


def asked_of(run: LoadedRun) -> Asked:
    """Return what checks requests to a run."""
    return Asked(run.recipe.conditioning, run.known.facts)


def sheet_of(
    run: LoadedRun,
    settings: SamplingConfig,
    requests: Sequence[SampleRequest] = (),
    sweep: str | None = None,
    negative: str | None = None,
    *,
    yes: bool = False,
) -> Sheet:
    """Lay out the requests, or every variant of the prompt `sweep` for each of them, as a sheet.

    All variants in a row have the same seed, so that only the words differ.

    Args:
        run: The model.
        settings: Of sampling; a negative prompt needs guidance.
        requests: Pictures to sample; with a sweep only their seeds and controls are used.
        sweep: A prompt with choices in braces.
        negative: What guidance leads away from.
        yes: As in `sweep_of`.

    Raises:
        ConfigError: The model takes no captions, the sweep has too many pictures, a caption has words it does not know, or a
            negative prompt has no effect.
    """
    if negative is not None:
        check_negative(run, negative, settings)
    if sweep is None:
        return Sheet(tuple(requests), negative=negative)
    asked_of(run).require_captions("--sweep")
    table = sweep_of(sweep, len(requests), yes=yes)
    for caption in table.captions:
        _encoder(run).check_prompt(caption)
    rows, variants = [], []
    for number, name in enumerate(table.rows):
        captions = table.captions[number * len(table.columns) : (number + 1) * len(table.columns)]
        for request in requests:
            variants += [replace(request, shows=caption) for caption in captions]
            seed = f"seed {request.seed}" if len(requests) > 1 else ""
            rows.append(", ".join(part for part in (name, seed) if part))
    return Sheet(tuple(variants), len(table.columns), tuple(rows) if any(rows) else None, table.columns, negative)


def cut_prompts(run: LoadedRun, sheet: Sheet) -> list[str]:
    """Return the captions of a sheet that are too long for the text encoder, each once."""
    if run.text_encoder is None:
        return []
    said = list(dict.fromkeys(filter(None, [*(request.shows for request in sheet.requests), sheet.negative])))
    return [caption for caption, cut in zip(said, run.text_encoder.cut(said), strict=True) if cut]


def prompts_in(run: LoadedRun, path: Path) -> list[str]:
    """Read the prompts of a file. Raises ConfigError for a model without captions, or naming the line that is wrong."""
    asked_of(run).require_captions("--prompts")
    return read_prompts(path, _encoder(run))


def check_negative(run: LoadedRun, negative: str, settings: SamplingConfig) -> None:
    """Raise ConfigError for a negative prompt that the model cannot read, or that has no effect."""
    asked_of(run).check_negative(negative, run.text_encoder, settings.guidance.semantic_scale)


def _encoder(run: LoadedRun) -> TextEncoder:
    if run.text_encoder is None:
        raise ValueError("a text-conditional run has a text encoder")
    return run.text_encoder


def _default_shown(run: LoadedRun) -> Sequence[str | None]:
    """Choose what to show when no prompt or class was given: every class once if there are few, else no condition."""
    names = run.known.facts.class_names
    return names if 0 < len(names) <= 32 else [None]


def steps_of(sheet: Sheet, settings: SamplingConfig) -> int:
    """Count the solver steps that `sample_pixels` will report, over all batches."""
    return settings.steps * -(-len(sheet.requests) // settings.batch_size)


def sample_images(
    run: LoadedRun,
    requests: Sequence[SampleRequest],
    settings: SamplingConfig,
    on_step: Callable[[int], None] | None = None,
    negative: str | None = None,
    start: Start | None = None,
    on_estimate: OnStep | None = None,
) -> Tensor:
    """Sample one picture per request.

    Args:
        run: The model.
        requests: What to show, N of them.
        settings: Solver, steps, guidance and batch size.
        on_step: Called with the number of solver steps done, over all batches.
        negative: A prompt that guidance leads away from.
        start: The picture to start from, instead of noise.
        on_estimate: As `Generator.images`.

    Returns:
        Images float32 [N, C, H, W] in about [-1, 1].
    """
    inputs = run.build_inputs(requests)
    unwanted = None if negative is None else _encoder(run).encode([negative] * len(requests))
    return run.generator.images(inputs, [request.seed for request in requests], settings, on_step, unwanted, start, on_estimate)


def sample_pixels(
    run: LoadedRun,
    requests: Sequence[SampleRequest],
    settings: SamplingConfig,
    on_step: Callable[[int], None] | None = None,
    negative: str | None = None,
) -> Tensor:
    """Sample as `sample_images` does; returns pixels uint8 [N, C, H, W]."""
    return to_pixels(sample_images(run, requests, settings, on_step, negative))


_SETTINGS = frozenset({"steps", "solver", "spacing", "semantic_scale", "control_scale", "rescale", "seed", "count"})
"""Of sampling, which options set and other commands take as KEY=VALUE."""


def read_controls(texts: Sequence[str], run: LoadedRun) -> dict[str, str]:
    """Read arguments such as `size=64x64` as option -> value. Raises ConfigError for unknown or malformed ones."""
    options = [control.asked_as for control in run.recipe.conditioning.controls]
    values = {}
    for text in texts:
        option, separator, value = text.partition("=")
        if option in options and not separator:
            raise ConfigError(f"control {option} has no value", needed=f"{option}=VALUE")
        if option not in options:
            known = (
                f"NAME=VALUE, with NAME {nearest(option, options)}" if options else "this model was trained without controls"
            )
            setting = option.rpartition(".")[2]
            meant = f"--{setting.replace('_', '-')} {value or 'VALUE'}" if setting in _SETTINGS else ""
            raise ConfigError(f"{text!r} names no control of this model", needed=known, fix=meant)
        values[option] = value
    return values
