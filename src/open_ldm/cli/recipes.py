"""`ldm recipes [show NAME]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe
from open_ldm.cli.options import Json, print_json, show
from open_ldm.core.errors import ConfigError


def recipes(
    action: Annotated[str | None, typer.Argument(help="Nothing to list them, or: show")] = None,
    name: Annotated[str | None, typer.Argument(help="The recipe to show.", autocompletion=complete_recipe)] = None,
    as_json: Json = False,
) -> int:
    """List the packaged recipes, or show one with its comments."""
    from open_ldm.runs.catalogue import about, all_packaged, editions, packaged, recipe_text

    if action is None:
        rows = {each: about(each) for each in all_packaged()}
        several = {each: known for each in rows if (known := editions(each)) != [1]}
        if as_json:
            print_json({"recipes": rows, "editions": several})
        else:
            width = max(len(each) for each in rows)
            show("\n".join(f"{each:<{width}}  {line}{_editions_of(each, several)}" for each, line in rows.items()))
            show("\nldm recipes show NAME prints one; ldm train NAME trains it")
            show(f"ldm autoencoder train NAME: {', '.join(packaged('autoencoder'))}")
        return 0
    if action != "show" or name is None:
        raise ConfigError(
            f"ldm recipes {action} {name or ''}".strip() + " is not a command",
            needed="ldm recipes, or ldm recipes show NAME",
            fix="see ldm recipes --help",
        )
    text = recipe_text(name)
    if as_json:
        print_json({"name": name, "text": text})
    else:
        show(text, end="")
    return 0


def _editions_of(name: str, several: Mapping[str, Sequence[int]]) -> str:
    """' (edition 2; before: demo@1)'; nothing for a recipe of one edition."""
    if name not in several:
        return ""
    *before, newest = several[name]
    return f" (edition {newest}; before: {', '.join(f'{name}@{each}' for each in before)})"
