"""`ldm compare RUN RUN ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.options import Json, print_json, show


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...", help="Run folders; the first is what others differ from.", autocompletion=complete_run
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write, an HTML file.")] = Path("compare.html"),
    count: Annotated[int, typer.Option(min=0, help="Pictures sampled from each run, with the same seeds; 0 samples none.")] = 8,
    as_json: Json = False,
) -> int:
    """Runs side by side: a table, curves and pictures of the same seeds, as one page; values only where they compare."""
    from open_ldm.commands.compare import compare_runs
    from open_ldm.commands.compare_page import require_page, sample_grids, write_page

    require_page(out)
    found = compare_runs(runs)
    page = write_page(found, sample_grids(found.runs, count), out)
    if as_json:
        print_json({**found.to_json(), "page": str(page)})
    else:
        show(found.text())
        show(f"page: {page}")
    return 0
