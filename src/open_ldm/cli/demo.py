"""`ldm demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_setting
from open_ldm.cli.options import Json, Out, given_once, print_json


def demo(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", callback=given_once, help="Changes to both recipes.", autocompletion=complete_setting
        ),
    ] = None,
    out: Out = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what the size does, by smaller models: half the time or less.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show the paper in minutes: two models learn the same drawings, entangled and improved, side by side. No download."""
    from open_ldm.commands.demo import FULL, QUICK, run_demo
    from open_ldm.commands.demo.text import demo_text

    version = QUICK if quick else FULL
    result = run_demo(out or Path("runs") / version.folder, overrides or (), silent=as_json, version=version)
    if as_json:
        print_json(result.to_json())
    else:
        print(demo_text(result, colour=sys.stdout.isatty()))
    return result.code
