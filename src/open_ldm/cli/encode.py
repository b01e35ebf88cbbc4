"""`ldm encode RECIPE [key=value ...]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import Json, print_json
from open_ldm.core.errors import ConfigError


def encode(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, e.g. data.views=4 cache.shard_mb=64.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the cache; the same as cache.path=FOLDER.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of it, mend damaged files, make some entries again and compare them.")
    ] = False,
    entries: Annotated[
        int | None,
        typer.Option(
            "--entries", min=0, help="Entries of each view, of captions and labels that --verify compares: 16; 0 for all."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Encode pictures and captions once, for many trainings. The same command again goes on where it stopped; several share
    the work."""
    from open_ldm.commands.encode import ENTRIES
    from open_ldm.commands.encode import encode as fill
    from open_ldm.runs.recipe import load_recipe

    if entries is not None and not verify:
        raise ConfigError(f"--entries {entries} has no effect", needed="--verify", fix="add --verify, or leave it out")
    given = [*(overrides or ()), *([] if out is None else [_path_override(out)])]
    resolved = load_recipe(recipe, given)
    if resolved.cache is None:
        resolved = load_recipe(recipe, [*given, _path_override(Path("caches") / resolved.name)])
    result = fill(resolved, verify=verify, entries=ENTRIES if entries is None else entries, silent=as_json)
    if as_json:
        print_json(result.to_json())
        return 0
    print(result.sentence())
    if result.checked is not None:
        off = result.checked.difference
        print(f"{result.checked.entries:,} entries made again differ by {off:.2g} of the largest number at most")
    if result.unused:
        print(f"{len(result.unused):,} other sections there belong to other settings: {', '.join(result.unused)}")
    return 0


def _path_override(path: Path) -> str:
    return f"cache.path={json.dumps(str(path))}"
