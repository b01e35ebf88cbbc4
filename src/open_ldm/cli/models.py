"""`ldm models`."""

from __future__ import annotations

from typing import Annotated

import typer

from open_ldm.cli.options import Json, print_json, show


def models(
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Count too what each picture adds to the memory, in bf16: a minute or two.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Parameters, multiply-adds and training memory of every denoiser and size, counted without allocating a weight."""
    from open_ldm.commands.model_table import model_table

    rows = model_table(pictures=pictures)
    if as_json:
        print_json({"models": [row.to_json() for row in rows]})
        return 0
    each = f"{'a picture':>12}" if pictures else ""
    head = f"{'denoiser':<10}{'size':<6}{'patch':>5}{'parameters':>16}{'GMACs':>10}{'memory':>12}{each}"
    show(f"{head}   counted for", flush=True)
    for row in rows:
        each = f"{row.memory.picture / 1e6:>9.0f} MB" if pictures else ""
        counted = f"{row.parameters:>16,}{row.gmacs:>10.2f}{row.memory.total(0) / 1e9:>9.2f} GB{each}"
        show(f"{row.denoiser:<10}{row.size:<6}{row.patch:>5}{counted}   {row.setting}", flush=True)
    show("memory: weights, gradients, optimiser and average of a training; pictures come on top (--pictures, ldm plan)")
    return 0
