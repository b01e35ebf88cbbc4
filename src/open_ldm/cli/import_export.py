"""`ldm import NAME FILE --out RUN` and `ldm export RUN --to diffusers --out FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from open_ldm.cli.options import Json, print_json, show


def import_(
    name: Annotated[str, typer.Argument(help="Which published model, e.g. dit-xl-2; a wrong name lists them.")],
    source: Annotated[Path, typer.Argument(help="Its file (.safetensors, .pt, ...) or a folder in diffusers' format.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to its recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to make; runs/NAME by default.")] = None,
    as_json: Json = False,
) -> int:
    """Make a run folder of published weights, ready for ldm sample.

    Pickles are read as tensors only, in a process of their own; safetensors cannot hold code.
    """
    from open_ldm.commands.import_export import import_weights

    result = import_weights(name, source, out or Path("runs") / name, overrides or ())
    if as_json:
        content = {"run": str(result.run), "parameters": result.parameters, "weights": result.weights}
        print_json({**content, "quirks": dict(result.quirks)})
    else:
        show(f"{result.parameters:,} numbers ({result.weights}) in {result.run}; sample with: ldm sample {result.run}")
        for setting, value in result.quirks.items():
            show(f"  {setting} = {value}")
    return 0


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint inside it.")],
    to: Annotated[Literal["diffusers"], typer.Option("--to", help="The format.")] = "diffusers",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; RUN-diffusers by default.")] = None,
    as_json: Json = False,
) -> int:
    """Write a run's averaged weights for diffusers' own from_pretrained."""
    from open_ldm.commands.import_export import beside, export_to_diffusers

    folder = export_to_diffusers(run, out or beside(run, to))
    if as_json:
        print_json({"folder": str(folder)})
    else:
        show(f"{folder}: see the README.md in it")
    return 0
