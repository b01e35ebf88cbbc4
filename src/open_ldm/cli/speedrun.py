"""`ldm speedrun RECIPE [key=value ...]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Json, given_once, print_json, show

More = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="KEY=VALUE", callback=given_once, help="A change to the tuned recipe alone; repeatable."),
]


def speedrun(
    recipe: Annotated[
        str,
        typer.Argument(help="The recipe that sets the level, at the end of its budget.", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes to it and to the tuned one.",
            autocompletion=complete_setting,
        ),
    ] = None,
    tuned: Annotated[
        str | None,
        typer.Option("--tuned", help="The recipe to compare; RECIPE by default.", autocompletion=complete_recipe),
    ] = None,
    more: More = None,
    name: Annotated[str, typer.Option("--name", help="Of the tuned recipe's row and folder.")] = "tuned",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each recipe.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="Of the first; use others for tuning.")] = 100,
    points: Annotated[int, typer.Option(min=2, help="Measurements of each training; 50 is every 2 % of its budget.")] = 50,
    pictures: Annotated[int, typer.Option(min=80, help="Samples at each point.")] = 500,
    held_out: Annotated[
        float | None, typer.Option(min=0.001, max=0.9, help="Share that is held out: 0.1, unless the recipe says it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler; those of the recipe by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default runs/speedruns/RECIPE.")] = None,
    table: Annotated[Path | None, typer.Option("--table", help="Markdown file for the rows: docs/speedrun.md, say.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how long it takes; train nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Measure the training time to a fixed held-out loss and a fixed distance from held-out pictures.

    The level is where RECIPE stands at the end of its budget, in the mean of its seeds, frozen with the files that measure it.
    The time is that of the first crossing, the median of the seeds; measuring is not counted. The same command goes on.
    """
    from open_ldm.studies.speedrun import Choice, Speedrun, cost_of
    from open_ldm.studies.speedrun.settings import sides_of
    from open_ldm.studies.speedrun.table import read_table, update_table

    if table is not None:
        read_table(table)  # before hours of training
    choice = Choice(seeds, first_seed, points, pictures, held_out, steps)
    sides = sides_of(recipe, overrides or (), tuned, more or (), name)
    folder = out or Path("runs") / "speedruns" / Path(recipe).stem
    run = Speedrun(sides, folder, choice, ["ldm", *sys.argv[1:]], show if not as_json else lambda line: None)
    cost = cost_of(run.sides, choice)
    if dry_run:
        print_json(cost.to_json()) if as_json else show(cost.text())
        return 0
    if not as_json:
        show(cost.text(), flush=True)
    found = run.run()
    if table is not None:
        update_table(table, found)
    print_json(found.to_json()) if as_json else show(f"{found.text()}\n{folder / 'speedrun.json'}")
    return 0
