"""`ldm data stats RECIPE` and `ldm data survey RECIPE`."""

from __future__ import annotations

from typing import Annotated

import typer

from open_ldm.cli.options import Json, print_json

app = typer.Typer(help="What a recipe's data look like.", rich_markup_mode=None)

Recipe = Annotated[str, typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe.")]


@app.command()
def stats(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> int:
    """Mean and deviation of every latent channel, behind the recipe's autoencoder, and the setting that states them."""
    from open_ldm.commands.data_stats import report_latents
    from open_ldm.runs.recipe import load_recipe

    report = report_latents(load_recipe(recipe, overrides or ()), silent=as_json)
    if as_json:
        print_json(report.to_json())
    else:
        print(report.text())
    return 0


@app.command()
def survey(
    recipe: Recipe,
    overrides: Overrides = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every picture, which finds damage behind the header.")
    ] = False,
    as_json: Json = False,
) -> int:
    """What the data set holds: layout, sizes, classes, captions, and pictures that cannot be used."""
    from open_ldm.commands.survey import survey_data
    from open_ldm.runs.autoencoder.recipe import load_any_recipe

    found = survey_data(load_any_recipe(recipe, overrides or ()), decode=decode)
    if as_json:
        print_json(found.to_json())
    else:
        print(found.text())
    return 0
