"""`ldm study NAME` and `ldm study list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from open_ldm.cli.options import FigureFormat, Json, given_once, print_json, show


def study(
    name: Annotated[str, typer.Argument(help="The study to run; list, or no name, lists them all.")] = "list",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", callback=given_once, help="Changes to the recipe of every arm."),
    ] = None,
    scale: Annotated[str, typer.Option(help="tiny (minutes), small (an hour), or paper (the real data and budgets).")] = "tiny",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An arm, or a setting such as photographs; several times.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of training for each arm.")] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="CUDA devices (or cpu) that train at the same time, one arm on each.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve, build and count every arm; train nothing.")] = False,
    figure_format: Annotated[
        FigureFormat | None, typer.Option("--format", help="Also write every figure into a file of its own, beside the page.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; by default runs/studies/NAME-SCALE.")] = None,
    as_json: Json = False,
) -> int:
    """Run one of the paper's tables or figures: train its arms, measure them in the same way, write study.html.

    The same command goes on where it stopped; the page is rewritten after every arm.
    """
    from open_ldm.commands.devices import devices_of, require_devices
    from open_ldm.studies.catalogue import study_of
    from open_ldm.studies.choice import Choice, require_known
    from open_ldm.studies.cost import cost_of
    from open_ldm.studies.run import Runner

    if name == "list":
        options = {"--only": only, "--seeds": seeds, "--devices": devices, "--format": figure_format, "--out": out}
        options |= {"--scale": scale if scale != "tiny" else None, "--dry-run": dry_run or None}
        _require_no_others(overrides or (), options)
        return _list(as_json)
    wanted = study_of(name)
    folder = out or Path("runs") / "studies" / f"{name}-{scale}"
    choice = Choice(tuple(only or ()), seeds, tuple(overrides or ()), devices_of(devices) if devices else ())
    require_known(wanted, scale, choice.only)
    require_devices(choice.devices)
    if dry_run or scale == "paper":
        cost = cost_of(wanted, scale, folder, choice)
        if dry_run and as_json:
            print_json(cost.to_json())
        elif not as_json:
            show(cost.text(), flush=True)
        if dry_run:
            return 0
    command = ["ldm", "study", name, *choice.overrides, "--scale", scale]
    command += [word for arm in choice.only for word in ("--only", arm)]
    command += [*(("--seeds", str(seeds)) if seeds else ()), *(("--devices", devices) if devices else ())]
    command += [*(("--format", figure_format) if figure_format else ()), "--out", str(folder)]
    found = Runner(wanted, scale, folder, choice, command, silent=as_json, figure_format=figure_format).run()
    if as_json:
        findings = [{"setting": each.setting, "text": each.text(), "verdict": each.verdict} for each in found.findings]
        print_json({"study": name, "scale": scale, "folder": str(folder), "finished": found.finished, "findings": findings})
    else:
        show("\n".join([*(f"{each.setting}: {each.text()}" for each in found.findings), str(folder / "study.html")]))
    return 0


def _require_no_others(overrides: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise ConfigError for what was given beside `list`, where it has no effect."""
    from open_ldm.core.errors import ConfigError

    given = list(overrides)
    for option, value in options.items():
        values = value if isinstance(value, list) else [value] if value is not None else []
        given += [option if value is True else f"{option} {one}" for one in values]
    if given:
        raise ConfigError(f"{given[0]} has no effect on the list of studies", fix="leave it out, or name a study")


def _list(as_json: bool) -> int:
    from open_ldm.studies.catalogue import STUDIES

    if as_json:
        print_json({"studies": {each.name: {"shows": each.shows, "question": each.question} for each in STUDIES.values()}})
        return 0
    width = max(len(each) for each in STUDIES)
    show("\n".join(f"{each.name:<{width}}  {each.shows}: {each.title}" for each in STUDIES.values()))
    show("\nldm study NAME --scale tiny runs one; with --dry-run it prints what it would cost")
    return 0
