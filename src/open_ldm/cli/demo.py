"""`ldm demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, Out, print_json


def demo(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the demo recipe.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Train a small text-to-picture model in minutes, check what it samples, and write a report. Needs no download."""
    from open_ldm.commands.demo import run_demo
    from open_ldm.runs.recipe import load_recipe

    folder = out or Path("runs") / "demo"
    result = run_demo(load_recipe("demo", overrides or ()), folder, silent=as_json, overrides=overrides or ())
    if as_json:
        print_json(result.to_json())
    return result.code
