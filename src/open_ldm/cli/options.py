"""Options that mean the same in every command, and how results are printed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from open_ldm.core.errors import ConfigError, escaped
from open_ldm.core.plain_data import to_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
FigureFormat = Literal["svg", "pdf", "png"]
"""What a figure is written as; `pages.figures.Format`, without loading it for a help text."""
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to.")]
RunOut = Annotated[Path | None, typer.Option("--out", help="Run folder; by default runs/NAME, with the name of the recipe.")]

Elsewhere = Annotated[
    bool, typer.Option("--elsewhere", help="With --dry-run: data and device may be missing, it is to run elsewhere.")
]


def given_once(settings: list[str] | None) -> list[str] | None:
    """Refuse a setting that is given twice, with different values: the callback of every KEY=VALUE."""
    return _given_once(settings, nested=True)


def control_once(controls: list[str] | None) -> list[str] | None:
    """Refuse a control that is given twice, with different values: the callback of every CONTROL=VALUE."""
    return _given_once(controls, nested=False)


def _given_once(given: list[str] | None, *, nested: bool) -> list[str] | None:
    if given and len(given) > 1:
        from open_ldm.core.overrides import require_given_once

        require_given_once(given, nested=nested)
    return given


def load_torch(*, silent: bool = False) -> None:
    """Load what every training and sampling needs, which takes seconds on a slow disk: that is then said."""
    from open_ldm.core.slow_steps import SlowSteps

    SlowSteps(silent=silent)("loading PyTorch", import_module, "torch")


def show(text: str, *, end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print text in which names and captions of any data may stand: what a terminal would obey is spelt out."""
    print(escaped(text, keep="\n\t"), end=end, file=file, flush=flush)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(to_json(content, default=str))


def require_dry_run(*, elsewhere: bool, dry_run: bool) -> None:
    """Raise ConfigError for `--elsewhere` without `--dry-run`, where it has no effect."""
    if elsewhere and not dry_run:
        raise ConfigError("--elsewhere has no effect without --dry-run", fix="add --dry-run, or leave it out")
