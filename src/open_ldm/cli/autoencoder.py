"""`ldm autoencoder train RECIPE [key=value ...]`."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from typing import Annotated

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Elsewhere, Json, RunOut, given_once, print_json, require_dry_run, show

app = typer.Typer(help="Autoencoders of your own.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Autoencoders of your own, for pictures that no public one knows, and for machines without a network."""


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(help="A packaged recipe (ldm recipes), a YAML file, or a run folder.", autocompletion=complete_recipe),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes, e.g. network.latent_channels=8.",
            autocompletion=complete_setting,
        ),
    ] = None,
    out: RunOut = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve, build and count; train nothing.")] = False,
    elsewhere: Elsewhere = False,
    as_json: Json = False,
) -> int:
    """Train a small KL autoencoder; OUT/autoencoder then serves any recipe. The same command again goes on."""
    require_dry_run(elsewhere=elsewhere, dry_run=dry_run)
    from open_ldm.autoencoders.export import as_config
    from open_ldm.commands.absent import code_of_absent
    from open_ldm.commands.autoencoder_dry_run import dry_run as build_only
    from open_ldm.commands.train import default_folder
    from open_ldm.core.launch import leads
    from open_ldm.runs.autoencoder.checks import read_checks
    from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
    from open_ldm.runs.autoencoder.recorder import AUTOENCODER
    from open_ldm.runs.autoencoder.train import train_autoencoder
    from open_ldm.runs.editions import as_edition_begun

    resolved = load_autoencoder_recipe(recipe, overrides or ())
    folder = out or default_folder(recipe, resolved.name)
    resolved, notes = as_edition_begun(resolved, folder, partial(load_autoencoder_recipe, recipe, overrides or ()))
    if dry_run:
        show("".join(f"note: {line}\n" for line in notes), end="", file=sys.stderr)
        outcome = build_only(resolved)
        if as_json:
            print_json(outcome.to_json())
        else:
            show(outcome.text())
        return code_of_absent(outcome.absent, elsewhere=elsewhere)
    command = ["ldm", "autoencoder", "train", recipe, *(overrides or ()), "--out", str(folder)]
    result = train_autoencoder(resolved, folder, silent=as_json, command=command, notes=notes)
    if not leads():
        return result.code
    checks = read_checks(folder)
    use = as_config(resolved.network, folder / AUTOENCODER).model_dump(mode="json", exclude={"subfolder"})
    if as_json:
        quality = {name: getattr(checks[-1], name) if checks else None for name in ("mean_psnr_db", "worst_psnr_db")}
        print_json({**result.to_json(), **quality, "autoencoder": use if checks else None})
    elif result.code == 75:
        show(f"stopped and saved; go on with: {shlex.join(command)}", file=sys.stderr)
    else:
        show("use it in a recipe: autoencoder: {" + ", ".join(f"{name}: {value}" for name, value in use.items()) + "}")
    return result.code
