"""`ldm encode RECIPE [key=value ...]`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Json, given_once, print_json, show


def encode(
    recipe: Annotated[
        str,
        typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes, e.g. data.views=4 cache.shard_mb=64.",
            autocompletion=complete_setting,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the cache; the same as cache.path=FOLDER.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of it, replace damaged files, encode some entries anew and compare.")
    ] = False,
    entries: Annotated[
        int | None,
        typer.Option(
            "--entries", min=0, help="Entries of each view, of captions and labels that --verify compares: 16; 0 for all."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="I/N", help="Begin with this share, as a job of a Slurm array.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Encode pictures and captions once, for many trainings. The same command again goes on where it stopped; several share
    the work."""
    from open_ldm.commands.encode import encode as fill
    from open_ldm.commands.encode import with_cache
    from open_ldm.core.tasks import Task
    from open_ldm.runs.recipe import load_recipe

    resolved = with_cache(partial(load_recipe, recipe), overrides or (), out)
    share = None if task is None else Task.parse(task)
    result = fill(resolved, verify=verify, entries=entries, task=share, silent=as_json)
    if as_json:
        print_json(result.to_json())
    else:
        show(result.text())
    return 0
