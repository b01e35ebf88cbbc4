"""`ldm inspect tokens RUN ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, print_json

app = typer.Typer(help="What a trained model pays attention to.", rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Keeps `tokens` a command of its own, though it is the only one."""


@app.command()
def tokens(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of models of captions.")],
    pictures: Annotated[int, typer.Option(min=1, max=1024, help="Pictures to measure on.")] = 32,
    as_json: Json = False,
) -> int:
    """How much attention and gradient go to a caption's tokens, and how much to its padding.

    For each run it writes RUN/inspect/tokens.svg and tokens.json. Pictures are held-out ones where the run holds some out.
    """
    from open_ldm.runs.inspect import HEADER, inspect_tokens

    found = []
    for run in runs:
        found.append(inspect_tokens(run, pictures))
        for problem in found[-1].problems:
            print(f"warning: checkpoint passed over: {problem}", file=sys.stderr)
    if as_json:
        print_json({"runs": [each.to_json() for each in found]})
        return 0
    rows = [HEADER, *(each.row() for each in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows))
    print("plots: " + ", ".join(str(each.plot) for each in found))
    return 0
