"""`ldm sample RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, Out, print_json


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint inside it.")],
    controls: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONTROL=VALUE]...", help="size=HxW  crop=TOP,LEFT  flip=0|1  aspect=W:H"),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A caption; may be given several times.")] = None,
    class_name: Annotated[list[str] | None, typer.Option("--class", help="A class name; may be given often.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures for each prompt or class.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next has the next seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps.")] = None,
    solver: Annotated[str | None, typer.Option(help="ddpm, ddim, euler, heun or dpmpp_2m.")] = None,
    semantic_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the caption or class.")] = None,
    control_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the controls.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Draw pictures from a trained run: PNGs, grid.png and samples.json."""
    from open_ldm.core.events import Progress
    from open_ldm.runs import sample as sampling
    from open_ldm.runs.load import load_run

    loaded = load_run(run)
    for problem in loaded.problems:
        print(f"warning: checkpoint passed over: {problem}", file=sys.stderr)
    wishes = sampling.wishes_from(
        loaded, prompt or (), class_name or (), count, seed, sampling.read_controls(controls or (), loaded)
    )
    settings = sampling.settings_from(loaded, steps, solver, semantic_scale, control_scale)
    batches = -(-len(wishes) // settings.batch_size)
    with Progress(settings.steps * batches, label="sample", unit="steps", silent=as_json) as progress:
        pixels = sampling.draw(loaded, wishes, settings, lambda done: progress.update(done))
    folder = out or _next_folder(run)
    written = sampling.write_samples(loaded, wishes, pixels, settings, folder)
    if as_json:
        print_json({"folder": str(folder), "grid": str(written.grid), "pictures": [str(path) for path in written.pictures]})
    else:
        if all(wish.shows is None for wish in wishes) and loaded.recipe.conditioning.semantic.kind != "none":
            print("nothing was asked for, so nothing was said to the model; see --prompt and --class")
        print(f"{len(wishes)} pictures in {folder}; all at once: {written.grid}")
    return 0


def _next_folder(run: Path) -> Path:
    """RUN/drawn/0001, 0002, ...: nothing is overwritten."""
    root = (run if (run / "config.yaml").is_file() else run.parent.parent) / "drawn"
    taken = [int(entry.name) for entry in root.glob("*") if entry.name.isdigit()] if root.is_dir() else []
    return root / f"{max(taken, default=0) + 1:04d}"
