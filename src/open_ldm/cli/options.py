"""Options that mean the same in every command, and how results are printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from open_ldm.core.plain_data import to_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
FigureFormat = Literal["svg", "pdf", "png"]
"""What a figure is written as; `pages.figures.Format`, without loading it for a help text."""
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
RunOut = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/NAME, with the name of the recipe.")]


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(to_json(content, default=str))
