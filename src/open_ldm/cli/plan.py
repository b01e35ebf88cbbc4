"""`ldm plan RECIPE [key=value ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Json, given_once, print_json


def plan(
    recipe: Annotated[
        str,
        typer.Argument(help="A packaged recipe (ldm recipes), a YAML file or a run folder.", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes, e.g. training.batch_size=64.",
            autocompletion=complete_setting,
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many devices share the batch.")] = 1,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="GB of memory of each device, for one that is not in this machine; how fast it is, is not known then."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time a few real updates, or matrix products where none fits.")
    ] = True,
    as_json: Json = False,
) -> int:
    """What a training needs: memory by part, the largest micro-batch, pictures a second, hours and disk."""
    from open_ldm.commands.dry_run import dry_run, dry_run_stages
    from open_ldm.commands.plan import plan as plan_of
    from open_ldm.runs.recipe import load_recipe
    from open_ldm.runs.stages import build_stages

    resolved = load_recipe(recipe, overrides or ())
    stages = build_stages(resolved, Path("runs") / resolved.name)
    runs = dry_run_stages(stages) if stages else [dry_run(resolved)]
    given = None if memory is None else int(memory * 1e9)
    plans = [plan_of(run, devices=devices, memory_bytes=given, measure=measure) for run in runs]
    if as_json:
        print_json({"plans": [each.to_json() for each in plans]})
    else:
        print("\n\n".join(each.text() for each in plans))
    return 0
