"""`ldm ema RUN --length L [--out FOLDER]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.options import Json, print_json, show


def ema(
    run: Annotated[
        Path,
        typer.Argument(help="A run folder of training.ema.kind=power, or one checkpoint in it.", autocompletion=complete_run),
    ],
    length: Annotated[
        list[float], typer.Option("--length", help="Of the average, as a share of the training, e.g. 0.13; may be repeated.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to make; RUN-ema-LENGTH by default.")] = None,
    as_json: Json = False,
) -> int:
    """Make averaged weights of another length after training, as a run folder that ldm sample and ldm evaluate take."""
    from open_ldm.commands.ema import require_averages, write_average
    from open_ldm.commands.import_export import beside
    from open_ldm.core.errors import ConfigError

    if out is not None and len(length) > 1:
        raise ConfigError(f"--out names one folder, and there are {len(length)} lengths", fix="leave --out out")
    folders = [out or beside(run, f"ema-{one:g}") for one in length]
    require_averages(length, folders)
    made = []
    for one, folder in zip(length, folders, strict=True):
        made.append(write_average(run, one, folder))
        if not as_json:
            for problem in made[-1].problems:
                show(f"warning: {problem}")
            show(made[-1].text())
    if as_json:
        print_json({"averages": [each.to_json() for each in made]})
    return 0
