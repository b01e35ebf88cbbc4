"""`ldm sample RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from open_ldm.cli.completion import complete_run
from open_ldm.cli.options import Json, Out, control_once, load_torch, print_json, show

if TYPE_CHECKING:
    from open_ldm.commands.sample_options import SampleOptions
    from open_ldm.runs.load import LoadedRun

Labels = Literal["equal", "random"]
"""`commands.sample_array.Labels`, without loading it for a help text."""
_ARRAY = 50_000

Sweep = Annotated[
    str | None,
    typer.Option(help="One caption with choices, 'a {red,blue} {circle,square}': a labelled grid of all, one seed a row."),
]
Negative = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What guidance leads away from, instead of the empty caption.")
]
Count = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pictures for each prompt or class: 4 of one prompt, 1 of a file's or a sweep's. With --npz: in all."
    ),
]
Npz = Annotated[
    bool,
    typer.Option("--npz", help="Write one array file for FID programs: 50,000 pictures, or one a prompt. It can be stopped."),
]
ArrayLabels = Annotated[
    Labels | None,
    typer.Option(help="With --npz: classes or prompts in turn (equal), or drawn at random as classes are by default."),
]
ClassNames = Annotated[
    list[str] | None, typer.Option("--class", help="A class name, or an index where no name is a number; may be given often.")
]
Size = Annotated[
    str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Of a model trained in buckets: size of the pictures, in pixels.")
]
Aspect = Annotated[str | None, typer.Option(metavar="WIDTH:HEIGHT", help="Likewise, by the aspect ratio: 2:1, 3:4, ...")]
ClassIndices = Annotated[list[int] | None, typer.Option(min=0, help="A class by its index; may be given often.")]

Batch = Annotated[int | None, typer.Option(min=1, help="Pictures at once: fewer need less memory and change no picture.")]
Guide = Annotated[
    Path | None,
    typer.Option(help="A weaker model to lead away from: an earlier checkpoint, or ldm ema.", autocompletion=complete_run),
]
GuideScale = Annotated[float | None, typer.Option(min=0, help="How far, with --guide; 1 is none.")]
Rescale = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the contrast that guidance added to be taken back; 0.7, say.")
]
Strength = Annotated[float | None, typer.Option(help="Time that it is noised to, 0.6 by default; 1 leaves nothing of it.")]

Controls = Annotated[list[str] | None, typer.Argument(metavar="[CONTROL=VALUE]...", callback=control_once, help="{controls}")]


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder, or one checkpoint inside it.", autocompletion=complete_run)],
    controls: Controls = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A caption; may be given several times.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of captions, one a line; # starts a comment.")] = None,
    sweep: Sweep = None,
    negative_prompt: Negative = None,
    class_name: ClassNames = None,
    class_index: ClassIndices = None,
    count: Count = None,
    size: Size = None,
    aspect: Aspect = None,
    npz: Npz = False,
    labels: ArrayLabels = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next has the next seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps.")] = None,
    solver: Annotated[str | None, typer.Option(help="{solvers}.")] = None,
    spacing: Annotated[str | None, typer.Option(help="Of the steps: {spacings}.")] = None,
    semantic_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the caption or class.")] = None,
    control_scale: Annotated[float | None, typer.Option(min=0, help="Guidance towards the controls.")] = None,
    guide: Guide = None,
    guide_scale: GuideScale = None,
    rescale: Rescale = None,
    start: Annotated[Path | None, typer.Option(help="A picture to start from, noised and denoised again.")] = None,
    strength: Strength = None,
    batch: Batch = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sample a sweep of more than 1,000 pictures too.")] = False,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Sample pictures from a trained run: PNGs, grid.png and samples.json.

    Each prompt's pictures have the seeds SEED, SEED + 1, ...; the same seed starts from the same noise.
    """
    load_torch(silent=as_json)
    from open_ldm.commands.sample import open_run, prompts_in, read_controls
    from open_ldm.commands.sample_options import SampleOptions
    from open_ldm.commands.shape import run_of_shape

    _refuse(run, out, labels, npz=npz, starts=start is not None or strength is not None)
    loaded = run_of_shape(open_run(run), size, aspect)
    captions = (*(prompt or ()), *(prompts_in(loaded, prompts) if prompts else ()))
    usual = (len(captions) or _ARRAY) if npz else 1 if prompts or sweep else 4
    solving: dict[str, Any] = {"steps": steps, "solver": solver, "spacing": spacing, "batch_size": batch}
    leading: dict[str, Any] = {"semantic_scale": semantic_scale, "control_scale": control_scale, "rescale": rescale}
    leading |= {"guide": guide, "guide_scale": guide_scale, "start": start, "strength": strength, "yes": yes}
    options = SampleOptions(
        prompts=captions,
        classes=tuple(class_name or ()),
        class_index=tuple(class_index or ()),
        controls=read_controls(controls or (), loaded),
        count=count or usual,
        seed=seed,
        sweep=sweep,
        negative_prompt=negative_prompt,
        **solving,
        **leading,
    )
    return _array(loaded, options, labels, out, as_json) if npz else _pictures(loaded, options, out, as_json)


def _refuse(run: Path, out: Path | None, labels: Labels | None, *, npz: bool, starts: bool) -> None:
    """Refuse, before anything is loaded, a place that cannot be written and options that do not go together."""
    from open_ldm.checkpoints.names import run_folder_of
    from open_ldm.core.errors import ConfigError
    from open_ldm.core.files import require_writable

    place = run_folder_of(run) if out is None else out
    if out is not None or place.is_dir():  # loading says what is wrong with a run
        require_writable(place)
    if labels is not None and not npz:
        raise ConfigError("--labels has no effect without --npz", fix="add --npz, or leave it out")
    if npz and starts:
        raise ConfigError("--start and --strength are not for --npz", fix="leave --npz out")


def _pictures(loaded: LoadedRun, options: SampleOptions, out: Path | None, as_json: bool) -> int:
    """Sample one file for each picture."""
    from open_ldm.commands.sample import sample as sample_run

    samples = sample_run(loaded, options, into=out, silent=as_json)
    written = samples.save(out)
    if as_json:
        print_json(written.to_json())
        return 0
    if all(request.shows is None for request in samples.requests) and loaded.recipe.conditioning.semantic.kind != "none":
        show("no prompt or class was given, so the model was sampled without one; see --prompt and --class")
    if loaded.recipe.conditioning.semantic.kind == "class" and (options.classes or options.class_index):
        show("classes: " + ", ".join(dict.fromkeys(str(request.shows) for request in samples.requests)))
    show(written.sentence())
    return 0


def _array(loaded: LoadedRun, options: SampleOptions, labels: Labels | None, out: Path | None, as_json: bool) -> int:
    """Sample all pictures into one array file; the process that writes says where it is."""
    from open_ldm.commands.sample_array import sample_array

    written = sample_array(loaded, options, labels, out, silent=as_json)
    if written.leads:
        print_json(written.to_json()) if as_json else show(written.sentence())
    return 0
