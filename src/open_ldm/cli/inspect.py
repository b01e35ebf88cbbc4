"""`ldm inspect schedule RECIPE` and `ldm inspect positions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, Out, print_json

app = typer.Typer(help="Pictures of what a recipe computes.", rich_markup_mode=None)


@app.command()
def schedule(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """alpha_bar and log-SNR of the noise schedule over t, and as they were before process.resolution moved them."""
    from open_ldm.runs.inspect import inspect_schedule
    from open_ldm.runs.recipe import load_recipe

    shown = inspect_schedule(load_recipe(recipe, overrides or ()), out or Path("inspected"))
    if as_json:
        print_json(shown.to_json())
    else:
        print(shown.text())
    return 0


@app.command()
def positions(
    base: Annotated[str, typer.Option("--from", help="Tokens of the grid of pre-training: a side, or ROWSxCOLUMNS.")] = "16",
    size: Annotated[str, typer.Option("--to", help="Tokens of the new grid.")] = "32",
    width: Annotated[int, typer.Option(min=8, help="Channels of the table.")] = 64,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Position tables of a larger grid, resampled, interpolated and extrapolated, side by side."""
    from open_ldm.runs.inspect import grid_of, inspect_positions

    written = inspect_positions(grid_of(base), grid_of(size), width, out or Path("inspected"))
    if as_json:
        print_json({"files": [str(path) for path in written]})
    else:
        print("\n".join(map(str, written)))
    return 0
