"""`ldm evaluate RUN|FOLDER [key=value ...]` and `ldm evaluate fit-features DATA`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.groups import OWN, WithOwnCommand
from open_ldm.cli.help_lists import HelpWithLists
from open_ldm.cli.options import Json, Out, control_once, given_once, print_json, show
from open_ldm.core.errors import ConfigError, choice_of

app = typer.Typer(cls=WithOwnCommand, help="Measure samples of a run, or stored pictures.", rich_markup_mode=None)

Control = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", callback=control_once, help="Control of all pictures, e.g. size=256x256."),
]

Count = Annotated[
    int | None,
    typer.Option("--n", min=1, help="How many: 1000 sampled ones by default, of given ones all up to 50,000."),
]


@app.command(
    OWN,
    cls=HelpWithLists,
    hidden=True,
    epilog="ldm evaluate fit-features DATA --out FOLDER makes an extractor of your own pictures.",
)
def evaluate(
    given: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FOLDER",
            help="A run folder or checkpoint; pictures: a folder, shards, a table, an .npz file, or a recipe that reads them.",
            autocompletion=complete_run,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", callback=given_once, help="Settings, e.g. sampling.steps=20 metrics.kid.subset_size=100."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Data to compare with: a recipe, a run, or pictures as before. A run's own by default."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="{metrics}; separate several by commas. [{default_metrics}]"),
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder of fit-features, Inception's weights file, a DINOv2 or CLIP folder, random, or {kind: KIND, ...} "
            "with KIND one of {extractors}; may be given several times."
        ),
    ] = None,
    n: Count = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next has the next seed.")] = 0,
    control: Control = None,
    part: Annotated[str, typer.Option(help="train or held_out: which part of data with a holdout.")] = "train",
    cache: Annotated[Path, typer.Option(help="Where the data's statistics are kept.")] = Path("caches") / "references",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    task: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Collect the i-th of n parts of the pictures, for --join; no metric is computed."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Measure the parts that --task 1/n to n/n collected.")] = False,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Sample a run, or read pictures, and compare them with data; evaluation.json keeps the results."""
    from open_ldm.commands.evaluate.evaluate import DEFAULT_METRICS
    from open_ldm.commands.evaluate.options import config_from, controls_from
    from open_ldm.core.launch import leads

    names = DEFAULT_METRICS if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    config = config_from(
        list(dict.fromkeys(names)), extractor or (), controls_from(control or ()), overrides or (), n=n, seed=seed
    )
    chosen_part = choice_of("--part", part, ("train", "held_out"))
    chosen_device = choice_of("--device", device, ("auto", "cpu", "cuda", "mps"))
    more = {"part": chosen_part, "out": out, "device": chosen_device, "silent": as_json}
    found = _found(given, against, config, task, join, cache, more)
    if leads():
        print_json(found.to_json()) if as_json else show(found.text())
    return 0


def _found(given: Path, against: str | None, config: Any, task: str | None, join: bool, cache: Path, more: Any) -> Any:
    """Measure all, or collect the part of a task."""
    from open_ldm.commands.evaluate.evaluate import collect_part, evaluate
    from open_ldm.core.tasks import Task

    if task is None:
        return evaluate(given, against, config, cache=cache, join=join, **more)
    if join:
        raise ConfigError("--task collects a part and --join joins all", needed="one of the two")
    return collect_part(given, against, config, Task.parse(task), **more)


@app.command("fit-features")
def fit_features(
    data: Annotated[str, typer.Argument(help="Labelled pictures: a recipe, a run, a folder of pictures, shards.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            callback=given_once,
            help="Settings, e.g. pictures=200000; data.KEY=VALUE changes DATA's recipe.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the extractor.")] = Path("features"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Json = False,
) -> int:
    """Train a small classifier on labelled pictures, whose features then measure pictures of that kind. Minutes on a CPU.

    The same command again goes on where it stopped, and leaves a finished one as it is.
    """
    from open_ldm.commands.evaluate.options import fit_config_from
    from open_ldm.commands.fit_features import fit_features

    of_data = [each for each in overrides or () if each.startswith("data.")]
    config = fit_config_from([each for each in overrides or () if each not in of_data])
    fitted = fit_features(
        data,
        out,
        config,
        device=choice_of("--device", device, ("auto", "cpu", "cuda", "mps")),
        silent=as_json,
        changes=of_data,
    )
    if as_json:
        found = {"accuracy": fitted.accuracy, "tested": fitted.tested, "sha256": fitted.sha256}
        print_json({"folder": str(fitted.folder), **found, "was_there": fitted.was_there})
    else:
        already = "already there: " if fitted.was_there else ""
        show(f"{already}{fitted.accuracy:.1%} of {fitted.tested:,} held-out pictures recognised")
        show(f"use it: ldm evaluate RUN --extractor {shlex.quote(str(fitted.folder))}")
    return 0
