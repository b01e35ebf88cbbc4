"""A training run from recipe to report: open, resume if there is something to resume, train, record, end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_ldm.autoencoders import Autoencoder
from open_ldm.core.config import read_yaml
from open_ldm.core.device import Machine, choose_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError, DiskError, OpenLdmError, exit_code_of
from open_ldm.core.events import effective_events, read_events
from open_ldm.core.files import write_json
from open_ldm.data.health import Health
from open_ldm.data.loader import open_data, read_batches
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey, survey
from open_ldm.model.checkpoint import Checkpoint, CheckpointFolder
from open_ldm.runs.assemble import (
    Knowledge,
    autoencoder_of,
    encoder_of,
    facts_of,
    generator_of,
    latent_stats_of,
    libraries_of,
    remembering,
    text_encoder_of,
    trainer_of,
    workers_of,
)
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.load import knowledge_from_json
from open_ldm.runs.preview import preview_wishes
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.recorder import Recorder
from open_ldm.text.survey import survey_captions
from open_ldm.training.fingerprint import fingerprint
from open_ldm.training.loop import Loop
from open_ldm.training.plan import plan_batches
from open_ldm.training.signals import StopRequest


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: exit code (0 done, 75 stopped and saved), where it lies, and how far it got."""

    code: int
    run: Path
    samples_seen: int
    seconds: float
    loss: float | None


def train(recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = ()) -> TrainingResult:
    """Train a recipe in the folder `out`, going on from its newest good checkpoint when it has one.

    Raises OpenLdmError subclasses; whatever happens, exit.json says so. SIGTERM, SIGINT and SIGUSR1 save and end with 75.
    """
    machine = choose_machine(recipe.training.device, recipe.training.dtype, recipe.training.deterministic)
    world = join_world(machine.device)
    folder = RunFolder(out)
    if not world.leads:
        return _run(recipe, folder, machine, world, silent=True, command=command)
    with folder:
        _require_same_recipe(recipe, folder)  # a refusal leaves the run as it was, its exit.json too
        try:
            return _run(recipe, folder, machine, world, silent=silent, command=command)
        except BaseException as error:
            reason, fix = f"{type(error).__name__}: {error}", ""
            if isinstance(error, OpenLdmError):
                reason, fix = error.problem, error.fix
            with suppress(DiskError):  # a full disk must not hide what went wrong first
                folder.write_exit(exit_code_of(error), reason, _samples_seen(folder), fix)
            raise


def _run(
    recipe: Recipe, folder: RunFolder, machine: Machine, world: World, *, silent: bool, command: Sequence[str]
) -> TrainingResult:
    with StopRequest() as stop:  # from here on a signal is remembered until there is something to save
        return _trained(recipe, folder, machine, world, stop, silent=silent, command=command)


def _trained(
    recipe: Recipe,
    folder: RunFolder,
    machine: Machine,
    world: World,
    stop: StopRequest,
    *,
    silent: bool,
    command: Sequence[str],
) -> TrainingResult:
    started = time.perf_counter()
    store = CheckpointFolder(folder.checkpoints, recipe.training.keep_checkpoints)
    checkpoint, problems = store.newest()
    source = open_data(recipe.data)
    seen = survey(source)
    health = _health(folder, source, seen, world.leads)
    autoencoder = autoencoder_of(recipe, machine)
    known = _knowledge(recipe, source, seen, checkpoint, autoencoder, machine)
    text_encoder = text_encoder_of(recipe, known.facts, machine)
    if text_encoder is not None:
        known = replace(known, facts=replace(known.facts, text_encoder=text_encoder.fingerprint))
        text_encoder = remembering(text_encoder, recipe, source)
    trainer = trainer_of(recipe, known, machine, world)
    if checkpoint is not None:
        trainer.restore(checkpoint.files, checkpoint.content["counters"])
    plan = plan_batches(recipe.training.batch_size, recipe.training.micro_batch_size, world)
    recorder = Recorder(
        folder=folder,
        recipe=recipe,
        known=known,
        trainer=trainer,
        generator=generator_of(recipe, known, trainer.ema.model, autoencoder),
        wishes=preview_wishes(recipe, known.facts, source, text_encoder),
        text_encoder=text_encoder,
        health=health,
        store=store,
        fingerprint=fingerprint(
            machine, world, plan.micro_batch_size, source.fingerprint, recipe.numerics, libraries_of(recipe)
        ),
        stop=stop,
        silent=silent,
    )
    batches = read_batches(
        source,
        recipe.data.transform,
        seed=recipe.training.seed,
        position_ranges=plan.ranges(trainer.progressed.samples_seen),
        workers=workers_of(recipe),
    )
    with recorder:
        captions = None if text_encoder is None else survey_captions(text_encoder, source)
        recorder.begin(seen, captions, machine, command, problems, None if checkpoint is None else checkpoint.content)
        encoder = encoder_of(recipe, known, autoencoder, machine, source, text_encoder)
        loop = Loop(trainer, plan, batches, encoder, recorder.hooks())
        code = recorder.end(finished=loop.run())
    seconds = time.perf_counter() - started
    return TrainingResult(code, folder.path, trainer.progressed.samples_seen, seconds, recorder.last_loss)


def _knowledge(
    recipe: Recipe,
    source: Source,
    seen: DataSurvey,
    checkpoint: Checkpoint | None,
    autoencoder: Autoencoder,
    machine: Machine,
) -> Knowledge:
    """A resumed run keeps what it knew: new pictures must not move its vocabulary or its latents."""
    if checkpoint is not None:
        return knowledge_from_json(checkpoint.content)
    return Knowledge(facts_of(recipe, source, seen), latent_stats_of(recipe, source, autoencoder, machine))


def _health(folder: RunFolder, source: Source, seen: DataSurvey, leads: bool) -> Health:
    """A new tally with what the survey found; raises DataError when there are too many.

    It starts anew with every process, so that files mended or removed since the last one no longer count.
    """
    health = Health(len(source))
    health.add(seen.bad)
    if leads:
        folder.health.unlink(missing_ok=True)
        if health.bad:
            write_json(folder.health, health.to_json())
    health.check()
    return health


def _require_same_recipe(recipe: Recipe, folder: RunFolder) -> None:
    """Refuse to go on with a run under settings that change its numbers."""
    if not folder.config.is_file() or not CheckpointFolder(folder.checkpoints).names():
        return
    before = flattened(recipe_from(read_yaml(folder.config), (), source=str(folder.config)).numerics)
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


def flattened(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as {'a.b': value}; list items are numbered, or named by their kind."""
    if isinstance(content, dict):
        items = [(str(name), item) for name, item in content.items()]
    elif isinstance(content, list) and any(isinstance(item, dict) for item in content):
        items = [(str(item.get("kind", i)) if isinstance(item, dict) else str(i), item) for i, item in enumerate(content)]
    else:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat.update(flattened(item, f"{prefix}.{name}" if prefix else name))
    return flat


def _samples_seen(folder: RunFolder) -> int:
    return max((event.samples_seen for event in effective_events(read_events(folder.events))), default=0)
