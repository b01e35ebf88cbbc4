"""A training run from recipe to report: open the folder, go on from a checkpoint if there is one, train, write, end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from open_ldm.checkpoints.checkpoint import Checkpoint, CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.config import flattened
from open_ldm.core.device import Machine, choose_device, forget_most_memory
from open_ldm.core.errors import CheckpointError, ConfigError, DiskError, cut, exit_code_of, reason_and_fix
from open_ldm.core.events import samples_seen_in
from open_ldm.core.signals import StopRequest
from open_ldm.core.threads import keep_threads
from open_ldm.denoisers.attention_switch import write_out_up_to
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder, nothing_left_if_nothing_began
from open_ldm.run_folder.recipe_schema import GOES_ON_BY_TIME
from open_ldm.runs.autoencoder_format import note_on_begun
from open_ldm.runs.batches import Batches
from open_ldm.runs.begun import begun_settings, parsed
from open_ldm.runs.build import build_generator, build_trainer
from open_ldm.runs.compiling import Compiling, compile_blocks
from open_ldm.runs.context import RunContext, TrainingResult
from open_ldm.runs.diffusion_recorder import DiffusionRecorder
from open_ldm.runs.encoders import libraries_of
from open_ldm.runs.held_out import keep_held_out
from open_ldm.runs.on_the_way import on_the_way_of
from open_ldm.runs.opened import open_run
from open_ldm.runs.ordering import tell_order
from open_ldm.runs.places import without_places
from open_ldm.runs.preview import preview_requests
from open_ldm.runs.reach import Reach
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.settled import Settled, settle_choices
from open_ldm.runs.starting import settle_for_folder, start_from
from open_ldm.runs.training_recipe import TrainingRecipe
from open_ldm.text.survey import survey_captions
from open_ldm.tracking import check_trackers
from open_ldm.training.fingerprint import as_begun, fingerprint
from open_ldm.training.length import require_length
from open_ldm.training.loop import Loop
from open_ldm.training.parallel import require_same_recipe_on_all, world_of
from open_ldm.training.plan import BatchPlan, plan_batches
from open_ldm.training.trainer import DiffusionTrainer
from open_ldm.transfer_learning.start import Started, StartingPoint


class RecipeParser(Protocol):
    """`recipe_from` and its like."""

    def __call__(self, content: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> TrainingRecipe:
        """A recipe from plain data."""


def train(
    recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = (), notes: Sequence[str] = ()
) -> TrainingResult:
    """Train a recipe in a run folder, going on from the newest good checkpoint when there is one.

    SIGTERM, SIGINT and SIGUSR1 save and end with code 75 (docs/reliability.md, 3.7).

    Args:
        recipe: Without stages.
        out: The run folder; it is made where it does not exist.
        silent: No progress is shown.
        command: Command line, for the event log.
        notes: What the user should know of the recipe, one line each.

    Returns:
        How the run ended.

    Raises:
        OpenLdmError: Whatever the error is, exit.json in the run folder says so too.
    """
    if recipe.stages:
        raise ConfigError(f"recipe {recipe.name} has stages", fix="use ldm train, which trains them one after the other")
    with world_of(recipe).sharing_errors():
        settled, start = settle_for_folder(recipe, RunFolder(out))
    notes = [*notes, *([GOES_ON_BY_TIME] if settled.conditioning != recipe.conditioning else [])]
    notes += note_on_begun(recipe.autoencoder, settled.autoencoder)

    def body(context: RunContext) -> TrainingResult:
        return _trained(settled, start, context, notes, silent=silent or not context.world.leads, command=command)

    return run_in_folder(settled, out, recipe_from, body)


def run_in_folder(
    recipe: TrainingRecipe, out: Path, parse: RecipeParser, body: Callable[[RunContext], TrainingResult]
) -> TrainingResult:
    """Train in a locked run folder; exit.json tells of any failure.

    Args:
        recipe: What is trained.
        out: The run folder.
        parse: Reads back the recipe that the folder was started with.
        body: The training itself.

    Returns:
        What `body` returns.

    Raises:
        ConfigError: The folder's run was started with settings that give other numbers.
        RunLockedError: Another process writes to the folder.
    """
    check_trackers(recipe.track)
    world, folder = world_of(recipe), RunFolder(out)
    machine = choose_device(recipe.training.device, recipe.training.dtype, scaled=True)

    def tell(error: BaseException) -> None:
        """Write down how the run failed."""
        reason, fix = reason_and_fix(error)
        with suppress(DiskError):  # a full disk must not hide what went wrong first
            folder.write_exit(exit_code_of(error), reason, samples_seen_in(folder.events), fix)

    def begin() -> None:
        require_same_recipe(recipe, folder, parse)  # a refusal leaves the run as it was, its exit.json too

    # From here on a signal is remembered until there is something to save.
    with (
        nothing_left_if_nothing_began(folder),
        StopRequest() as stop,
        world.sharing_errors(),
        folder if world.leads else nullcontext(),
    ):
        require_same_recipe_on_all(recipe, world)
        world.require_shared(out)
        world.everyone(begin, "the look at the run folder")
        with world.sharing_errors(tell):
            return body(RunContext(folder, machine, world, stop))


def _trained(
    recipe: Recipe,
    start: StartingPoint | None,
    context: RunContext,
    notes: Sequence[str],
    *,
    silent: bool,
    command: Sequence[str],
) -> TrainingResult:
    folder, machine, world, started = context.folder, context.machine, context.world, time.perf_counter()
    store = SharedCheckpoints(folder.checkpoints, world, recipe.training.keep_checkpoints)
    checkpoint, problems = store.newest_of_all()
    saved = None if checkpoint is None else checkpoint.content
    began = saved["fingerprint"] if saved else {}
    machine, kept = as_begun(machine, recipe.training.dtype, began), keep_threads(began, context.machine.device)
    opened = open_run(recipe, start, replace(context, machine=machine), saved, silent=silent)
    recipe, source, known, encoders = opened.recipe, opened.source, opened.known, opened.encoders
    batches, text_encoder = opened.batches, opened.encoders.text
    choices = settle_choices(recipe, known.facts, machine, world, began if saved else None)
    plan = plan_batches(recipe.training.batch_size, choices.micro_batch_size, world, strided=opened.order.windowed)
    with choices.naming_what_fits(plan.micro_batch_size):
        trainer = build_trainer(recipe, known, machine, world, counted_padding=choices.counted_padding)
        for model in (trainer.state.model, trainer.state.ema.model):
            write_out_up_to(model, choices.written_out)
        trainer.state.optimizer.multiply_in(choices.muon)
        transferred = _begin(trainer, recipe, checkpoint, start, known)
        world.agreed("position", trainer.state.counters.samples_seen, CheckpointError)
        compiling = Compiling() if opened.seen.buckets else compile_blocks(trainer, plan, batches, saved)
        generator = build_generator(recipe, known, trainer.state.ema.model, encoders.autoencoder, machine)
        micro = plan.micro_batch_size
        facts_of = partial(fingerprint, machine, world, micro, batches.fingerprint, recipe.numerics, libraries_of(recipe))
        recorder = DiffusionRecorder(
            folder=folder,
            recipe=recipe,
            known=known,
            trainer=trainer,
            generator=generator,
            requests=preview_requests(recipe, known.facts, source, text_encoder),
            text_encoder=text_encoder,
            on_the_way=on_the_way_of(recipe, known, source, generator, text_encoder, folder, context.stop.raise_if_requested),
            held_out=keep_held_out(recipe, known, encoders, world),
            order=tell_order(recipe, source, opened.order) if world.leads else None,
            health=opened.health,
            store=store,
            fingerprint={**facts_of(trainer.sharing.numerics, compiled=compiling.in_use), **choices.traits},
            compiling=compiling,
            stop=context.stop,
            silent=silent,
            reach=_reach(recipe, known, trainer, machine, choices, watched=not silent),
        )
        with recorder:
            told = (*notes, *kept, *opened.notes)
            resumed = None if saved is None else without_places(saved, recipe, known.facts)
            recorder.begin(opened.seen, survey_captions(text_encoder, source), machine, command, problems, resumed, told)
            code = _ended(recorder, transferred, plan, batches)
    return context.ended(code, trainer.state.counters.samples_seen, started, recorder.last_loss)


def _begin(
    trainer: DiffusionTrainer, recipe: Recipe, checkpoint: Checkpoint | None, start: StartingPoint | None, known: Knowledge
) -> Started | None:
    """Give a trainer the weights it begins with, where they are not random; those of another run have a receipt."""
    if checkpoint is not None:
        trainer.restore(checkpoint)
    return start_from(start, recipe, known, trainer.state) if checkpoint is None and start is not None else None


def _ended(recorder: DiffusionRecorder, transferred: Started | None, plan: BatchPlan, batches: Batches) -> int:
    """Say how training begins, train to the end or to a stop, and return the exit code."""
    recorder.say_order()
    recorder.say_compiled()
    if transferred is not None:
        recorder.transferred(transferred)
    trainer = recorder.trainer
    read = batches.read(plan.ranges(trainer.state.counters.samples_seen))
    loop = Loop(trainer, plan, read, batches.encoder, recorder.hooks())
    forget_most_memory(trainer.device)  # what starting took is not what training takes
    return recorder.end(finished=loop.run())


def _reach(
    recipe: Recipe, known: Knowledge, trainer: DiffusionTrainer, machine: Machine, choices: Settled, *, watched: bool
) -> Reach:
    spec, counted = recipe.model_spec(known.facts), watched or machine.device.type != "cpu"
    return Reach(spec, recipe.latent_shape[1:], machine, trainer.world.size, counted, choices.said)


_MAY_CHANGE = {"training.samples"}
"""Of a run that goes on."""


def require_same_recipe(recipe: TrainingRecipe, folder: RunFolder, parse: RecipeParser) -> None:
    """Refuse to go on with a run under settings that change its numbers.

    Args:
        recipe: As given now, settled.
        folder: Where it trains; nothing is refused before a first checkpoint.
        parse: Reads back the recipe that the folder was started with.

    Raises:
        ConfigError: The folder's run was started with other settings; the error names up to three. A training may become
            longer, never shorter than it is.
    """
    names = CheckpointFolder(folder.checkpoints).names()
    if not names or (begun := begun_settings(folder)) is None:
        return
    other = parsed(parse, *begun)
    before = flattened(other.numerics)
    now = flattened(recipe.numerics)
    differing = [name for name in sorted({*before, *now} - _MAY_CHANGE) if before.get(name) != now.get(name)]
    if differing:
        shown = ", ".join(f"{name}={_short(before.get(name))} (now {_short(now.get(name))})" for name in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        k = other.edition
        leave_out = "leave the change out" if k == recipe.edition else f"name its edition {k} (RECIPE@{k} in the command)"
        raise ConfigError(
            f"run folder {folder.path} was started with {shown}{more}",
            needed="the same settings to go on with it",
            fix=f"{leave_out}, or choose another --out",
        )
    require_length(recipe.training, samples_seen_of(names[0]), folder.path)  # a batch of another size would be blamed on it


def _short(value: Any) -> str:
    return cut(str(value), 24)
