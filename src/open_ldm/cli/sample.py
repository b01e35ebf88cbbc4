"""`ldm sample RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, Out, print_json
from open_ldm.core.errors import ConfigError


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint inside it.")],
    controls: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONTROL=VALUE]...", help="size=HxW  crop=TOP,LEFT  flip=0|1  aspect=W:H"),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A caption; may be given several times.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of captions, one a line; # starts a comment.")] = None,
    sweep: Annotated[
        str | None,
        typer.Option(help="One caption with choices, 'a {red,blue} {circle,square}': a labelled grid of all, one seed a row."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What guidance leads away from, in place of no caption.")
    ] = None,
    class_name: Annotated[list[str] | None, typer.Option("--class", help="A class name; may be given often.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Pictures for each prompt or class: 4 of one prompt, 1 of a file's or a sweep's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next has the next seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps.")] = None,
    solver: Annotated[str | None, typer.Option(help="ddpm, ddim, euler, heun or dpmpp_2m.")] = None,
    semantic_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the caption or class.")] = None,
    control_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the controls.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Draw pictures from a trained run: PNGs, grid.png and samples.json.

    Each prompt's pictures have the seeds SEED, SEED + 1, ...; the same seed starts from the same noise.
    """
    from open_ldm.commands import sample as sampling
    from open_ldm.core.events import Progress
    from open_ldm.runs.load import load_run

    if sweep is not None and (prompt or prompts or class_name):
        raise ConfigError("--sweep makes its own captions", fix="leave --prompt, --prompts and --class out")
    loaded = load_run(run)
    for problem in loaded.problems:
        print(f"warning: checkpoint passed over: {problem}", file=sys.stderr)
    settings = sampling.settings_from(loaded, steps, solver, semantic_scale, control_scale)
    said = [*(prompt or ()), *(sampling.prompts_in(loaded, prompts) if prompts else ())]
    each = count or (1 if prompts or sweep else 4)
    options = sampling.read_controls(controls or (), loaded)
    requests = sampling.requests_from(loaded, said, class_name or (), each, seed, options)
    sheet = sampling.sheet_of(loaded, settings, requests, sweep, negative_prompt)
    for caption in sampling.cut_prompts(loaded, sheet):
        print(f"warning: too long for the text encoder, its end is left out: {caption!r}", file=sys.stderr)
    with Progress(sampling.steps_of(sheet, settings), label="sample", unit="steps", silent=as_json) as progress:
        pixels = sampling.draw(loaded, sheet.requests, settings, lambda done: progress.update(done), sheet.negative)
    folder = out or _next_folder(run)
    written = sampling.write_samples(loaded, sheet, pixels, settings, folder)
    _refresh_report(run, out)
    if as_json:
        print_json(written.to_json())
    else:
        if all(request.shows is None for request in sheet.requests) and loaded.recipe.conditioning.semantic.kind != "none":
            print("nothing was asked for, so nothing was said to the model; see --prompt and --class")
        print(written.sentence())
    return 0


def _next_folder(run: Path) -> Path:
    """RUN/drawn/0001, 0002, ...: nothing is overwritten."""
    root = _run_folder(run) / "drawn"
    taken = [int(entry.name) for entry in root.glob("*") if entry.name.isdigit()] if root.is_dir() else []
    return root / f"{max(taken, default=0) + 1:04d}"


def _refresh_report(run: Path, out: Path | None) -> None:
    """Show on the run's page what was drawn into the run folder."""
    from open_ldm.commands.refresh_report import refresh_report

    if out is None:
        refresh_report(_run_folder(run))


def _run_folder(run: Path) -> Path:
    """The run folder, also of a checkpoint inside it."""
    return run if (run / "config.yaml").is_file() else run.parent.parent
