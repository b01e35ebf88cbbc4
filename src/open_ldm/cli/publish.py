"""`ldm publish space RUN --out FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.options import Json, load_torch, print_json, show

app = typer.Typer(help="Hand a trained model to people who have no open-ldm.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """`space` is named even while it is the only one."""


@app.command()
def space(
    run: Annotated[Path, typer.Argument(help="A run folder, or a checkpoint in it.", autocompletion=complete_run)],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; RUN-space by default.")] = None,
    as_json: Json = False,
) -> int:
    """Write a Space for the Hugging Face Hub: the studio's page Play on one model. It runs offline from the folder too."""
    load_torch(silent=as_json)
    from open_ldm.commands.import_export import beside
    from open_ldm.commands.publish.space import publish_space
    from open_ldm.core.slow_steps import SlowSteps

    slow = SlowSteps(silent=as_json)
    folder = slow("loading the model and writing the Space", publish_space, run, out or beside(run, "space"))
    if as_json:
        print_json({"folder": str(folder)})
    else:
        show(f"{folder}: see the README.md in it; python {folder}/app.py shows it here")
    return 0
