"""A training run from recipe to report: open the folder, go on from a checkpoint if there is one, train, write, end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.controls.data import survey_for
from open_ldm.core.config import flattened
from open_ldm.core.device import Machine, choose_device
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, ConfigError, DiskError, cut, exit_code_of, reason_and_fix
from open_ldm.core.events import samples_seen_in
from open_ldm.core.signals import StopRequest
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.data.buckets import Buckets
from open_ldm.data.health import Health, count_bad_samples
from open_ldm.data.sample import Source
from open_ldm.encoded.labels import vanished_classes
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts
from open_ldm.run_folder.folder import RunFolder, nothing_left_if_nothing_began
from open_ldm.run_folder.recipe_schema import GOES_ON_BY_TIME
from open_ldm.runs.batches import Batches, cached_batches, live_batches
from open_ldm.runs.begun import begun_settings, parsed
from open_ldm.runs.build import build_generator, build_trainer, read_facts
from open_ldm.runs.compiling import Compiling, compile_blocks
from open_ldm.runs.diffusion_recorder import DiffusionRecorder
from open_ldm.runs.encoders import Encoders, libraries_of, load_encoders
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.ordering import settle_order, tell_order
from open_ldm.runs.preview import preview_requests
from open_ldm.runs.reach import Reach
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.settled import Settled, settle_choices
from open_ldm.runs.shapes import buckets_of
from open_ldm.runs.starting import settle_for_folder, start_from
from open_ldm.runs.training_recipe import TrainingRecipe
from open_ldm.sources.loader import open_data
from open_ldm.text.survey import survey_captions
from open_ldm.tracking import check_trackers
from open_ldm.training.fingerprint import as_begun, fingerprint
from open_ldm.training.length import require_length
from open_ldm.training.loop import Loop
from open_ldm.training.parallel import require_same_recipe_on_all, world_of
from open_ldm.training.plan import BatchPlan, plan_batches
from open_ldm.training.trainer import DiffusionTrainer
from open_ldm.transfer_learning.start import Started, StartingPoint


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        code: Exit code: 0 done, 75 stopped by a signal and saved.
        run: The run folder.
        samples_seen: By the model.
        seconds: Of this process.
        loss: Last reported mean loss; None before the first report.
    """

    code: int
    run: Path
    samples_seen: int
    seconds: float
    loss: float | None


class RecipeParser(Protocol):
    """`recipe_from` and its like."""

    def __call__(self, content: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> TrainingRecipe:
        """A recipe from plain data."""


def train(recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = ()) -> TrainingResult:
    """Train a recipe in a run folder, going on from the newest good checkpoint when there is one.

    SIGTERM, SIGINT and SIGUSR1 save and end with code 75 (docs/reliability.md, 3.7).

    Args:
        recipe: Without stages.
        out: The run folder; it is made where it does not exist.
        silent: No progress is shown.
        command: Command line, for the event log.

    Returns:
        How the run ended.

    Raises:
        OpenLdmError: Whatever the error is, exit.json in the run folder says so too.
    """
    if recipe.stages:
        raise ConfigError(f"recipe {recipe.name} has stages", fix="use ldm train, which trains them one after the other")
    with world_of(recipe).sharing_errors():
        settled, start = settle_for_folder(recipe, RunFolder(out))
    notes = [GOES_ON_BY_TIME] if settled.conditioning != recipe.conditioning else []

    def body(context: RunContext) -> TrainingResult:
        return _trained(settled, start, context, notes, silent=silent or not context.world.leads, command=command)

    return run_in_folder(settled, out, recipe_from, body)


@dataclass(frozen=True)
class RunContext:
    """Where a run writes, on what it computes, with which processes, and whether it has been asked to stop."""

    folder: RunFolder
    machine: Machine
    world: World
    stop: StopRequest

    def ended(self, code: int, samples_seen: int, started: float, loss: float | None) -> TrainingResult:
        """Say how the run ended; `started` by time.perf_counter()."""
        return TrainingResult(code, self.folder.path, samples_seen, time.perf_counter() - started, loss)


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
    store, slow = SharedCheckpoints(folder.checkpoints, world, recipe.training.keep_checkpoints), SlowSteps(silent=silent)
    checkpoint, problems = store.newest_of_all()
    saved = None if checkpoint is None else checkpoint.content
    machine = as_begun(machine, recipe.training.dtype, saved["fingerprint"] if saved else {})
    source = slow("looking for the pictures", open_data, recipe.data, captions=recipe.conditioning.reads_captions)
    recipe, order = settle_order(recipe, source, begun=checkpoint is not None)
    seen = slow(f"reading {len(source):,} pictures", survey_for, recipe.conditioning.controls, source)
    health = count_bad_samples(folder.health, source, seen.bad, writes=world.leads)
    # A resumed run keeps what it knew: new pictures must not move its vocabulary or its latents.
    before = None if saved is None else Knowledge.from_json(saved)
    facts = read_facts(recipe, source, seen, before.facts if before else None, start.settings.spec.facts if start else None)
    encoders = slow("loading the autoencoder and the text encoder", load_encoders, recipe, source, facts, machine)
    facts, text_encoder = encoders.sign(facts), encoders.text
    seen = replace(seen, buckets=slow("reading the sizes of pictures", buckets_of, recipe.transform, source, world))
    notes = [*notes, *vanished_classes(facts.class_names, source.class_names), *seen.few(recipe.training.batch_size)]
    batches = _batches(recipe, source, facts, encoders, seen.buckets, health, context, silent=silent)
    known = Knowledge(facts, slow("measuring latents", batches.stats_of_all, world) if before is None else before.stats)
    choices = settle_choices(recipe, facts, machine, world, saved["fingerprint"] if saved else None)
    trainer = build_trainer(recipe, known, machine, world, counted_padding=choices.counted_padding)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    transferred = start_from(start, recipe, known, trainer.state) if checkpoint is None and start is not None else None
    world.agreed("position", trainer.state.counters.samples_seen, CheckpointError)
    plan = plan_batches(recipe.training.batch_size, choices.micro_batch_size, world, strided=order.windowed)
    compiling = Compiling() if seen.buckets else compile_blocks(trainer, plan, batches, saved)
    micro = plan.micro_batch_size
    facts_of = partial(fingerprint, machine, world, micro, batches.fingerprint, recipe.numerics, libraries_of(recipe))
    recorder = DiffusionRecorder(
        folder=folder,
        recipe=recipe,
        known=known,
        trainer=trainer,
        generator=build_generator(recipe, known, trainer.state.ema.model, encoders.autoencoder, machine),
        requests=preview_requests(recipe, known.facts, source, text_encoder),
        text_encoder=text_encoder,
        held_out=None if recipe.held_out is None else HeldOutPictures(recipe, known, encoders, recipe.held_out.pictures, world),
        order=tell_order(recipe, source, order),
        health=health,
        store=store,
        fingerprint={**facts_of(trainer.sharing.numerics, compiled=compiling.in_use), **choices.traits},
        compiling=compiling,
        stop=context.stop,
        silent=silent,
        reach=_reach(recipe, known, trainer, machine, choices, watched=not silent),
    )
    with recorder:
        captions = None if text_encoder is None else survey_captions(text_encoder, source)
        recorder.begin(seen, captions, machine, command, problems, saved, notes)
        code = _ended(recorder, transferred, plan, batches, choices)
    return context.ended(code, trainer.state.counters.samples_seen, started, recorder.last_loss)


def _ended(
    recorder: DiffusionRecorder, transferred: Started | None, plan: BatchPlan, batches: Batches, choices: Settled
) -> int:
    """Say how training begins, train to the end or to a stop, and return the exit code."""
    recorder.say_order()
    recorder.say_compiled()
    if transferred is not None:
        recorder.transferred(transferred)
    trainer = recorder.trainer
    read = batches.read(plan.ranges(trainer.state.counters.samples_seen))
    loop = Loop(trainer, plan, read, batches.encoder, recorder.hooks())
    with choices.naming_what_fits(plan.micro_batch_size):
        finished = loop.run()
    return recorder.end(finished=finished)


def _reach(
    recipe: Recipe, known: Knowledge, trainer: DiffusionTrainer, machine: Machine, choices: Settled, *, watched: bool
) -> Reach:
    spec, counted = recipe.model_spec(known.facts), watched or machine.device.type != "cpu"
    return Reach(spec, recipe.latent_shape[1:], machine, trainer.world.size, counted, choices.said)


def _batches(
    recipe: Recipe,
    source: Source,
    facts: DataFacts,
    encoders: Encoders,
    buckets: Buckets | None,
    health: Health,
    context: RunContext,
    *,
    silent: bool,
) -> Batches:
    """Open what the run reads, the same for every process: pictures, or the cache once it is whole."""
    folder, world = context.folder, context.world
    if recipe.cache is None:
        batches = live_batches(recipe, source, facts, encoders, buckets)
    else:
        batches = cached_batches(recipe, source, facts, encoders, health, context.stop, world, buckets, silent=silent)
        health.write(folder.health, writes=world.leads)
    batches.agree(world)
    return batches


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
    require_length(recipe.training, samples_seen_of(names[0]), folder.path)
    before = flattened(parsed(parse, *begun).numerics)
    now = flattened(recipe.numerics)
    differing = [name for name in sorted({*before, *now} - {"training.samples"}) if before.get(name) != now.get(name)]
    if differing:
        shown = ", ".join(f"{name}={_short(before.get(name))} (now {_short(now.get(name))})" for name in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"run folder {folder.path} was started with {shown}{more}",
            needed="the same settings to go on with it",
            fix="leave the change out, or choose another --out",
        )


def _short(value: Any) -> str:
    return cut(str(value), 24)
