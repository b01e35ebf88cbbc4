"""A training run from recipe to report: open, resume if there is something to resume, train, record, end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from open_ldm.core.config import flattened, read_yaml
from open_ldm.core.device import Machine, choose_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError, DiskError, OpenLdmError, exit_code_of
from open_ldm.core.events import effective_events, read_events
from open_ldm.core.files import write_json
from open_ldm.core.signals import StopRequest
from open_ldm.data.health import Health
from open_ldm.data.loader import open_data
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey, survey
from open_ldm.model.checkpoint import CheckpointFolder
from open_ldm.runs.batches import cached_batches, live_batches
from open_ldm.runs.build import Knowledge, encoders_of, facts_of, generator_of, libraries_of, trainer_of
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.load import knowledge_from_json
from open_ldm.runs.preview import preview_requests
from open_ldm.runs.recipe import Recipe, TrainingRecipe, recipe_from
from open_ldm.runs.recorder import Recorder
from open_ldm.runs.transfer import StartingPoint, begin_from, settle
from open_ldm.text.survey import survey_captions
from open_ldm.training.fingerprint import fingerprint
from open_ldm.training.loop import Loop
from open_ldm.training.plan import plan_batches


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: exit code (0 done, 75 stopped and saved), where it lies, and how far it got."""

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
    """Train a recipe in the folder `out`, going on from its newest good checkpoint when it has one.

    Raises OpenLdmError subclasses; whatever happens, exit.json says so. SIGTERM, SIGINT and SIGUSR1 save and end with 75.
    """
    if recipe.stages:
        raise ConfigError(f"recipe {recipe.name} has stages", fix="ldm train, which trains them one after the other")
    recipe, start = settle(recipe, RunFolder(out))

    def body(place: Place) -> TrainingResult:
        return _trained(recipe, start, place, silent=silent or not place.world.leads, command=command)

    return run_in_folder(recipe, out, recipe_from, body)


@dataclass(frozen=True)
class Place:
    """Where a run writes, on what it computes, with whom, and whether it has been asked to stop."""

    folder: RunFolder
    machine: Machine
    world: World
    stop: StopRequest


def run_in_folder(
    recipe: TrainingRecipe, out: Path, parse: RecipeParser, body: Callable[[Place], TrainingResult]
) -> TrainingResult:
    """Lock the run folder `out`, refuse settings it was not started with, and do `body`; exit.json tells of any failure.

    `parse`: reads back the recipe that the folder was started with.
    """
    machine = choose_machine(recipe.training.device, recipe.training.dtype, recipe.training.deterministic)
    world = join_world(machine.device)
    folder = RunFolder(out)
    if not world.leads:
        return _stoppable(folder, machine, world, body)
    with folder:
        require_same_recipe(recipe, folder, parse)  # a refusal leaves the run as it was, its exit.json too
        try:
            return _stoppable(folder, machine, world, body)
        except BaseException as error:
            reason, fix = f"{type(error).__name__}: {error}", ""
            if isinstance(error, OpenLdmError):
                reason, fix = error.problem, error.fix
            with suppress(DiskError):  # a full disk must not hide what went wrong first
                folder.write_exit(exit_code_of(error), reason, _samples_seen(folder), fix)
            raise


def _stoppable(folder: RunFolder, machine: Machine, world: World, body: Callable[[Place], TrainingResult]) -> TrainingResult:
    with StopRequest() as stop:  # from here on a signal is remembered until there is something to save
        return body(Place(folder, machine, world, stop))


def _trained(
    recipe: Recipe, start: StartingPoint | None, place: Place, *, silent: bool, command: Sequence[str]
) -> TrainingResult:
    folder, machine, world = place.folder, place.machine, place.world
    started = time.perf_counter()
    store = CheckpointFolder(folder.checkpoints, recipe.training.keep_checkpoints)
    checkpoint, problems = store.newest()
    world.barrier()  # all have looked before the leader saves a run that starts from another
    source = open_data(recipe.data)
    seen = survey(source)
    health = health_of(folder, source, seen, world.leads)
    # A resumed run keeps what it knew: new pictures must not move its vocabulary or its latents.
    before = None if checkpoint is None else knowledge_from_json(checkpoint.content)
    facts = facts_of(recipe, source, seen) if before is None else before.facts
    encoders = encoders_of(recipe, source, facts, machine)
    facts = replace(facts, autoencoder=encoders.autoencoder.fingerprint)
    text_encoder = encoders.text
    if text_encoder is not None:
        facts = replace(facts, text_encoder=text_encoder.fingerprint)
    if recipe.cache is None:
        reading = live_batches(recipe, source, facts, encoders)
    else:
        reading = cached_batches(recipe, source, facts, encoders, health, place.stop, world, silent=silent)
        write_health(folder, health, world.leads)
    known = Knowledge(facts, reading.latent_stats() if before is None else before.stats)
    trainer = trainer_of(recipe, known, machine, world)
    if checkpoint is not None:
        trainer.restore(checkpoint.files, checkpoint.content["counters"])
    transferred = begin_from(start, recipe, known, trainer) if checkpoint is None and start is not None else None
    plan = plan_batches(recipe.training.batch_size, recipe.training.micro_batch_size, world)
    recorder = Recorder(
        folder=folder,
        recipe=recipe,
        known=known,
        trainer=trainer,
        generator=generator_of(recipe, known, trainer.ema.model, encoders.autoencoder),
        requests=preview_requests(recipe, known.facts, source, text_encoder),
        text_encoder=text_encoder,
        held_out=None if recipe.held_out is None else HeldOutPictures(recipe, known, encoders, recipe.held_out.pictures, world),
        health=health,
        store=store,
        fingerprint=fingerprint(
            machine, world, plan.micro_batch_size, reading.fingerprint, recipe.numerics, libraries_of(recipe)
        ),
        stop=place.stop,
        silent=silent,
    )
    with recorder:
        captions = None if text_encoder is None else survey_captions(text_encoder, source)
        recorder.begin(seen, captions, machine, command, problems, None if checkpoint is None else checkpoint.content)
        if transferred is not None:
            recorder.transferred(transferred)
        batches = reading.batches(plan.ranges(trainer.progressed.samples_seen))
        loop = Loop(trainer, plan, batches, reading.encoder, recorder.hooks())
        code = recorder.end(finished=loop.run())
    seconds = time.perf_counter() - started
    return TrainingResult(code, folder.path, trainer.progressed.samples_seen, seconds, recorder.last_loss)


def health_of(folder: RunFolder, source: Source, seen: DataSurvey, leads: bool) -> Health:
    """A new tally with what the survey found; raises DataError when there are too many.

    It starts anew with every process, so that files mended or removed since the last one no longer count.
    """
    health = Health(len(source))
    health.add(seen.bad)
    write_health(folder, health, leads)
    health.check()
    return health


def write_health(folder: RunFolder, health: Health, leads: bool) -> None:
    """Say in the run folder which samples are bad, if any."""
    if leads:
        folder.health.unlink(missing_ok=True)
        if health.bad:
            write_json(folder.health, health.to_json())


def require_same_recipe(recipe: TrainingRecipe, folder: RunFolder, parse: RecipeParser) -> None:
    """Refuse to go on with a run under settings that change its numbers."""
    if not folder.config.is_file() or not CheckpointFolder(folder.checkpoints).names():
        return
    before = flattened(parse(read_yaml(folder.config), (), source=str(folder.config)).numerics)
    now = flattened(recipe.numerics)
    differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differing:
        shown = ", ".join(f"{name}={before.get(name)} (now {now.get(name)})" for name in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"run folder {folder.path} was started with {shown}{more}",
            needed="the same settings to go on with it",
            fix="leave the change out, or choose another --out",
        )


def _samples_seen(folder: RunFolder) -> int:
    return max((event.samples_seen for event in effective_events(read_events(folder.events))), default=0)
