"""Training an autoencoder from recipe to report, in the same way as a denoiser."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from open_ldm.autoencoders.network import build_network
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.device import Machine
from open_ldm.core.errors import DataError
from open_ldm.core.threads import keep_threads
from open_ldm.data.content import read_fingerprint
from open_ldm.data.health import count_bad_samples
from open_ldm.data.holdout import hold_out
from open_ldm.data.sample import Source
from open_ldm.data.survey import survey
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe, autoencoder_recipe_from
from open_ldm.runs.autoencoder.recorder import AutoencoderRecorder
from open_ldm.runs.context import RunContext, TrainingResult
from open_ldm.runs.train import run_in_folder
from open_ldm.sources.loader import default_workers, open_data, read_batches
from open_ldm.training.autoencoder import AutoencoderTrainer, ImageBatch, ImageEncoder
from open_ldm.training.fingerprint import as_begun, fingerprint
from open_ldm.training.loop import Loop
from open_ldm.training.plan import plan_batches

REQUIRED = ("recipe", "counters", "model", "ema", "optimizer")
"""What a checkpoint must hold for a run to go on."""

_AT_ONCE = 8
_HELD_OUT_SEED = 0


def train_autoencoder(
    recipe: AutoencoderRecipe, out: Path, *, silent: bool = False, command: Sequence[str] = (), notes: Sequence[str] = ()
) -> TrainingResult:
    """Train an autoencoder in a run folder, going on from the newest good checkpoint when there is one.

    The folder `autoencoder` inside it holds the newest averaged weights in diffusers' format. SIGTERM, SIGINT and SIGUSR1 save
    and end with code 75 (docs/reliability.md, 3.7).

    Args:
        recipe: What is trained and how.
        out: The run folder; it is made where it does not exist.
        silent: No progress is shown.
        command: Command line, for the event log.
        notes: What the user should know of the recipe, one line each.

    Returns:
        How the run ended.

    Raises:
        OpenLdmError: Whatever the error is, exit.json in the run folder says so too.
    """

    def body(context: RunContext) -> TrainingResult:
        return _trained(recipe, context, notes, silent=silent or not context.world.leads, command=command)

    return run_in_folder(recipe, out, autoencoder_recipe_from, body)


def _trained(
    recipe: AutoencoderRecipe, context: RunContext, notes: Sequence[str], *, silent: bool, command: Sequence[str]
) -> TrainingResult:
    started = time.perf_counter()
    folder, world, training = context.folder, context.world, recipe.training
    store = SharedCheckpoints(folder.checkpoints, world, training.keep_checkpoints, REQUIRED)
    checkpoint, problems = store.newest_of_all()
    began = checkpoint.content["fingerprint"] if checkpoint else {}
    machine, kept = as_begun(context.machine, training.dtype, began), keep_threads(began, context.machine.device)
    context = replace(context, machine=machine)
    source = open_data(recipe.data, captions=False)
    seen = survey(source)
    world.agreed("data", data := read_fingerprint(source), DataError)
    health = count_bad_samples(folder.health, source, seen.bad, writes=world.leads)
    parts = hold_out(source, recipe.held_out.pictures, training.seed)
    trainer = build_trainer(recipe, context)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    micro = training.micro_batch_size
    plan = plan_batches(training.batch_size, None if micro == "auto" else micro, world)
    recorder = AutoencoderRecorder(
        folder=folder,
        recipe=recipe,
        trainer=trainer,
        held_out=partial(_held_out_batches, recipe, parts.held_out, machine),
        health=health,
        store=store,
        fingerprint=fingerprint(
            machine, world, plan.micro_batch_size, data, recipe.numerics, gradients=trainer.sharing.numerics
        ),
        stop=context.stop,
        silent=silent,
    )
    batches = read_batches(
        parts.training,
        recipe.data.transform,
        seed=training.seed,
        position_ranges=plan.ranges(trainer.state.counters.samples_seen),
        workers=default_workers() if recipe.data.workers is None else recipe.data.workers,
        views=recipe.data.views,
    )
    encoder = ImageEncoder(recipe.network.in_channels, machine.device)
    with recorder:
        resumed = None if checkpoint is None else checkpoint.content
        recorder.begin(seen, None, machine, command, problems, resumed, (*notes, *kept))
        code = recorder.end(finished=Loop(trainer, plan, batches, encoder, recorder.hooks()).run())
    seconds = time.perf_counter() - started
    return TrainingResult(code, folder.path, trainer.state.counters.samples_seen, seconds, recorder.last_loss)


def build_trainer(recipe: AutoencoderRecipe, context: RunContext) -> AutoencoderTrainer:
    """Build the recipe's trainer: initial weights, no sample seen."""
    network = build_network(recipe.network, recipe.training.seed).to(context.machine.device)
    network.compute_dtype = context.machine.compute_dtype
    machine, world = context.machine, context.world
    return AutoencoderTrainer(network, recipe.loss, recipe.training, world, machine.device, recipe.parallel)


def _held_out_batches(recipe: AutoencoderRecipe, source: Source, machine: Machine) -> Iterator[ImageBatch]:
    """Every held-out picture once, cut as for training but always in the same way."""
    encoder = ImageEncoder(recipe.network.in_channels, machine.device)
    ranges = [range(start, min(start + _AT_ONCE, len(source))) for start in range(0, len(source), _AT_ONCE)]
    batches = read_batches(source, recipe.data.transform, seed=_HELD_OUT_SEED, position_ranges=ranges, workers=0)
    return map(encoder.encode, batches)
