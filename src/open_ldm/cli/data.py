"""`ldm data stats RECIPE`, `ldm data survey RECIPE` and `ldm data index PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Json, given_once, print_json, show
from open_ldm.core.errors import ConfigError

app = typer.Typer(help="What a recipe's data look like.", rich_markup_mode=None)

Recipe = Annotated[
    str, typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.", autocompletion=complete_recipe)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", callback=given_once, help="Changes to the recipe.", autocompletion=complete_setting
    ),
]


@app.command()
def stats(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> int:
    """Mean and deviation of every latent channel, behind the recipe's autoencoder, and the setting that states them."""
    from open_ldm.commands.data_stats import report_latents
    from open_ldm.runs.recipe import load_recipe

    report = report_latents(load_recipe(recipe, overrides or ()), silent=as_json)
    if as_json:
        print_json(report.to_json())
    else:
        show(report.text())
    return 0


@app.command()
def survey(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A packaged recipe (ldm recipes), a YAML file, a run folder, a folder of pictures, or an .npz array of them.",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: Overrides = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every picture, which finds damage behind the header.")
    ] = False,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Find pictures that are there twice, and across the hold-out, and show them.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the sheet of duplicates.")] = None,
    as_json: Json = False,
) -> int:
    """What the data set holds: layout, sizes, classes, captions, and pictures that cannot be used."""
    from open_ldm.commands.duplicates import duplicates_of
    from open_ldm.commands.survey import data_named, survey_data

    if out is not None and not duplicates:
        raise ConfigError("--out has no effect without --duplicates", fix="leave it out")
    data = data_named(recipe, overrides or (), duplicates=duplicates)
    found = survey_data(data, decode=decode)
    twice = duplicates_of(data.data, out, silent=as_json) if duplicates and not isinstance(data, Path) else None
    if as_json:
        print_json(found.to_json() | ({"duplicates": twice.to_json()} if twice else {}))
    else:
        show("\n".join([found.text(), *([twice.text()] if twice else [])]))
    return 0


@app.command()
def index(
    path: Annotated[
        str,
        typer.Argument(
            help="Tar shards (a folder, or a pattern such as 'data/train-*.tar'), arrow or parquet files, what save_to_disk"
            " wrote, a hub name with kind=huggingface, or a recipe that reads one of these.",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Settings of the source, such as picture=photo.png, or of the recipe.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="I/N", help="Only this share of the shards; the last one writes the table.")
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests/--no-digests", help="Read pictures for their hashes, which caches are compared by.")
    ] = True,
    as_json: Json = False,
) -> int:
    """Write an index beside each tar shard or arrow file and a table of all, from which training starts in seconds anywhere."""
    from open_ldm.commands.data_index import index_data, settings_of, source_of
    from open_ldm.core.tasks import Task

    share = None if task is None else Task.parse(task)
    with settings_of(path, overrides or ()):
        result = index_data(source_of(path, overrides or ()), share, digests=digests, silent=as_json)
    if as_json:
        print_json(result.to_json())
    else:
        show(result.text())
    return 0
