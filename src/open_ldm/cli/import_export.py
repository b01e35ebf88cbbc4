"""`ldm import NAME FILE --out RUN` and `ldm export RUN --to diffusers|diffusers-network|hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.options import Json, given_once, load_torch, print_json, show


def import_(
    name: Annotated[str, typer.Argument(help="Which published model, e.g. dit-xl-2; a wrong name lists them.")],
    source: Annotated[Path, typer.Argument(help="Its file (.safetensors, .pt, ...) or a folder in diffusers' format.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", callback=given_once, help="Changes to its recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to make; runs/NAME by default.")] = None,
    as_json: Json = False,
) -> int:
    """Make a run folder of published weights, ready for ldm sample.

    Pickles are read as tensors only, in a process of their own; safetensors cannot hold code.
    """
    from open_ldm.commands.import_export import import_weights

    result = import_weights(name, source, out or Path("runs") / name, overrides or ())
    if as_json:
        content = {"run": str(result.run), "parameters": result.parameters, "weights": result.weights}
        print_json({**content, "quirks": dict(result.quirks)})
    else:
        show(f"{result.parameters:,} numbers ({result.weights}) in {result.run}; sample with: ldm sample {result.run}")
        for setting, value in result.quirks.items():
            show(f"  {setting} = {value}")
    return 0


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint inside it.", autocompletion=complete_run)],
    name: Annotated[str | None, typer.Argument(metavar="[OWNER/NAME]", help="On the Hub, with --to hub.")] = None,
    to: Annotated[
        Literal["diffusers", "diffusers-network", "hub"],
        typer.Option(
            "--to",
            help="diffusers: a whole pipeline, with its code and a model card; hub: the same, pushed to the Hugging Face Hub;"
            " diffusers-network: weights for a network that diffusers itself has.",
        ),
    ] = "diffusers",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; RUN-diffusers by default.")] = None,
    public: Annotated[bool, typer.Option("--public", help="A model made on the Hub is visible to everyone.")] = False,
    as_json: Json = False,
) -> int:
    """Write a run's averaged weights as a pipeline for diffusers, or push it to the Hub."""
    load_torch(silent=as_json)
    from open_ldm.commands.export.hub import check_hub_name, push
    from open_ldm.commands.export.pipeline import export_pipeline
    from open_ldm.commands.import_export import beside, export_to_diffusers
    from open_ldm.core.errors import ConfigError
    from open_ldm.core.slow_steps import SlowSteps

    pushed = check_hub_name(name) if to == "hub" else ""
    if to != "hub" and (name is not None or public):
        what = repr(name) if name is not None else "--public"
        raise ConfigError(f"{what} has no effect with --to {to}", fix="add --to hub, or leave it out")
    write = export_to_diffusers if to == "diffusers-network" else export_pipeline
    slow, place = SlowSteps(silent=as_json), out or beside(run, "diffusers" if to == "hub" else to)
    folder = slow("loading the model and writing it", write, run, place)
    address = push(folder, pushed, public=public) if pushed else ""
    if as_json:
        print_json({"folder": str(folder), **({"address": address} if address else {})})
    else:
        show(f"{folder}: see the README.md in it" + (f"; pushed to {address}" if address else ""))
    return 0
