"""`ldm train RECIPE [key=value ...]`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.cli.options import Elsewhere, Json, RunOut, given_once, load_torch, print_json, require_dry_run, show

if TYPE_CHECKING:
    from open_ldm.runs.recipe import Recipe


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A packaged recipe (ldm recipes), a YAML file, a run folder, or a folder of pictures.",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Changes, e.g. training.batch_size=64.",
            autocompletion=complete_setting,
        ),
    ] = None,
    out: RunOut = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Train on so many GPUs of this machine, by torchrun.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Train in so many processes on the CPU, by torchrun.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve, build and count; train nothing.")] = False,
    elsewhere: Elsewhere = False,
    as_json: Json = False,
) -> int:
    """Train a model. The same command again goes on where the run stopped."""
    from open_ldm.core.launch import launched, leads

    require_dry_run(elsewhere=elsewhere, dry_run=dry_run)
    started_by = _option(gpus, processes)
    if started_by and not launched():
        return _in_processes(recipe, overrides or (), out, gpus, processes, dry_run=dry_run, as_json=as_json)
    load_torch(silent=as_json)
    from open_ldm.commands.guess import with_guess
    from open_ldm.commands.train import default_folder, train_recipe
    from open_ldm.core.overrides import last_given
    from open_ldm.runs.editions import as_edition_begun
    from open_ldm.runs.guidance_notes import guidance_notes
    from open_ldm.runs.recipe import load_recipe, recipe_notes
    from open_ldm.runs.weighting_notes import weighting_notes

    recipe, overrides = with_guess(recipe, overrides or ())
    settings = overrides if processes is None else last_given([*overrides, "training.device=cpu"])
    for line in recipe_notes(recipe, settings):
        show(f"note: {line}", file=sys.stderr)
    resolved = load_recipe(recipe, settings)
    folder = out or default_folder(recipe, resolved.name)
    resolved, notes = as_edition_begun(resolved, folder, partial(load_recipe, recipe, settings))
    notes = [*notes, *guidance_notes(resolved), *weighting_notes(resolved)]
    if dry_run:
        show("".join(f"note: {line}\n" for line in notes), end="", file=sys.stderr)
        return _built_alone(resolved, folder, elsewhere=elsewhere, as_json=as_json)
    command = ["ldm", "train", recipe, *overrides, *started_by, "--out", str(folder)]
    result = train_recipe(resolved, folder, silent=as_json, command=command, notes=notes)
    if not leads():
        return result.code
    if as_json:
        print_json(result.to_json())
    else:
        _say_how_to_go_on(result.code, folder, result.samples_seen, len(resolved.stages), command)
    return result.code


def _say_how_to_go_on(code: int, folder: Path, samples_seen: int, stages: int, command: Sequence[str]) -> None:
    if code == 75:
        show(f"stopped and saved; go on with: {shlex.join(command)}", file=sys.stderr)
        return
    if stages:
        done = "the only stage is done" if stages == 1 else f"all {stages} stages done"
        show(f"{done}, {samples_seen:,} samples; report: {folder}/report.html", file=sys.stderr)
    run = shlex.quote(str(folder))
    show(f"next: ldm sample {run}, or ldm studio {run} to play with it in a browser", file=sys.stderr)


def _built_alone(recipe: Recipe, folder: Path, *, elsewhere: bool, as_json: bool) -> int:
    """Show what would be trained; returns 65 where it could not be trained here."""
    from open_ldm.commands.absent import code_of_absent
    from open_ldm.commands.dry_run import dry_run as build_only
    from open_ldm.commands.dry_run import dry_run_stages, stages_text
    from open_ldm.runs.stages import build_stages

    content: dict[str, Any]
    if stages := build_stages(recipe, folder):
        outcomes = dry_run_stages(stages)
        text, content = stages_text(stages, outcomes), {"stages": [each.to_json() for each in outcomes]}
    else:
        outcomes = [build_only(recipe)]
        text, content = outcomes[0].text(), outcomes[0].to_json()
    print_json(content) if as_json else show(text)
    absent = dict.fromkeys(line for outcome in outcomes for line in outcome.absent)
    return code_of_absent(list(absent), elsewhere=elsewhere)


def _in_processes(
    recipe: str,
    overrides: Sequence[str],
    out: Path | None,
    gpus: int | None,
    processes: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """The same command in several processes of this machine, which know by its option what they are."""
    from open_ldm.commands.launch import launch
    from open_ldm.core.errors import ConfigError

    if dry_run:
        raise ConfigError("--dry-run builds in one process", fix="leave --gpus and --processes out")
    option = _option(gpus, processes)
    _require_fitting_device(overrides, option)
    folder = [] if out is None else ["--out", str(out)]
    words = ["train", recipe, *overrides, *option, *folder, *(["--json"] if as_json else [])]
    return launch(words, gpus=gpus, processes=processes)


def _option(gpus: int | None, processes: int | None) -> list[str]:
    """The option that starts several processes, as it was typed; none without one."""
    given = {"--gpus": gpus, "--processes": processes}
    return [word for option, count in given.items() if count is not None for word in (option, str(count))]


def _require_fitting_device(overrides: Sequence[str], option: Sequence[str]) -> None:
    """Raise ConfigError where a device is named on which the processes would not train."""
    from open_ldm.core.errors import ConfigError
    from open_ldm.core.overrides import apply_overrides

    named = [each for each in overrides if each.partition("=")[0].strip() in ("training", "training.device")]
    training = apply_overrides({}, named).get("training")
    device = training.get("device", "auto") if isinstance(training, dict) else "auto"
    if device not in ("auto", "cpu" if "--processes" in option else "cuda"):
        given = f"training.device={device}"
        raise ConfigError(
            f"{given} and {' '.join(option)} contradict each other", needed="one of them", fix=f"leave {given} out"
        )
