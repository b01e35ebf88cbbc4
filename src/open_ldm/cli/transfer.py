"""`ldm transfer SOURCE RECIPE [key=value ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_run, complete_setting
from open_ldm.cli.options import Elsewhere, Json, RunOut, given_once
from open_ldm.cli.train import train


def transfer(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, trained or imported, or one checkpoint inside it.", autocompletion=complete_run),
    ],
    recipe: Annotated[
        str,
        typer.Argument(
            help="What to train: a packaged recipe, a YAML file, or a run folder: its recipe.", autocompletion=complete_recipe
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes, e.g. init_from.positions=bicubic.",
            autocompletion=complete_setting,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A tensor that may be new or dropped though the recipes give no reason; * fits any."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Start from the raw weights instead of the averaged ones.")] = False,
    out: RunOut = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would become of every tensor; train nothing.")] = False,
    elsewhere: Elsewhere = False,
    as_json: Json = False,
) -> int:
    """Train a model that starts from another one: other sizes, data, classes, captions, controls or latents.

    What became of every tensor is printed and kept in transfer.json. The same command again goes on where the run stopped.
    """
    from open_ldm.commands.transfer import overrides_to_start_from

    given = overrides_to_start_from(source, overrides or (), allow=allow or (), raw=raw)
    return train(recipe, given, out, dry_run=dry_run, elsewhere=elsewhere, as_json=as_json)
