"""`ldm inspect schedule RECIPE`, `ldm inspect positions` and `ldm inspect tokens RUN ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_run, complete_setting
from open_ldm.cli.options import FigureFormat, Json, Out, given_once, print_json, show

Format = Annotated[FigureFormat, typer.Option("--format", help="What plots are written as; PDF and PNG are for print.")]
app = typer.Typer(
    help="Pictures of what a recipe computes and of where a trained model's attention goes.", rich_markup_mode=None
)


@app.command()
def schedule(
    recipe: Annotated[
        str,
        typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", callback=given_once, help="Changes to the recipe.", autocompletion=complete_setting
        ),
    ] = None,
    figure_format: Format = "svg",
    out: Out = None,
    as_json: Json = False,
) -> int:
    """alpha_bar and log-SNR of the noise schedule over t, and as they were before process.resolution moved them."""
    from open_ldm.commands.inspect import inspect_schedule
    from open_ldm.runs.recipe import load_recipe

    shown = inspect_schedule(load_recipe(recipe, overrides or ()), out or Path("inspected"), figure_format)
    if as_json:
        print_json(shown.to_json())
    else:
        show(shown.text())
    return 0


@app.command()
def positions(
    base: Annotated[str, typer.Option("--from", help="Tokens of the grid of pre-training: a side, or ROWSxCOLUMNS.")] = "16",
    size: Annotated[str, typer.Option("--to", help="Tokens of the new grid.")] = "32",
    width: Annotated[int, typer.Option(min=8, help="Channels of the table.")] = 64,
    figure_format: Format = "svg",
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Position tables of a larger grid, resampled, interpolated and extrapolated, side by side."""
    from open_ldm.commands.inspect import grid_of, inspect_positions

    written = inspect_positions(grid_of(base), grid_of(size), width, out or Path("inspected"), figure_format)
    if as_json:
        print_json({"files": [str(path) for path in written]})
    else:
        show("\n".join(map(str, written)))
    return 0


@app.command()
def tokens(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run folders of models that were trained with captions.", autocompletion=complete_run
        ),
    ],
    pictures: Annotated[int, typer.Option(min=1, max=1024, help="Pictures to measure on.")] = 32,
    figure_format: Format = "svg",
    as_json: Json = False,
) -> int:
    """How much attention and gradient go to a caption's tokens, and how much to its padding.

    For each run it writes RUN/inspect/tokens.svg and tokens.json. Pictures are held-out ones where the run holds some out.
    """
    from open_ldm.commands.inspect_tokens import HEADER, inspect_tokens

    found = []
    for run in runs:
        found.append(inspect_tokens(run, pictures, figure_format))
        for problem in found[-1].problems:
            show(f"warning: checkpoint passed over: {problem}", file=sys.stderr)
    if as_json:
        print_json({"runs": [each.to_json() for each in found]})
        return 0
    rows = [HEADER, *(each.row() for each in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    show("\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows))
    show("plots: " + ", ".join(str(each.plot) for each in found))
    return 0
