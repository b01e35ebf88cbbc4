"""What a run opens before it builds its trainer: pictures, encoders, batches, and what is known of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from open_ldm.controls.data import survey_for
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.data.buckets import Buckets
from open_ldm.data.health import Health, count_bad_samples
from open_ldm.data.order_config import ChosenOrder
from open_ldm.data.sample import Source
from open_ldm.data.survey import DataSurvey
from open_ldm.encoded.labels import vanished_classes
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts
from open_ldm.runs.autoencoder_format import settle_format
from open_ldm.runs.batches import Batches, cached_batches, live_batches
from open_ldm.runs.build import read_facts
from open_ldm.runs.cached_source import CachedSource, from_latents, open_training_data
from open_ldm.runs.context import RunContext
from open_ldm.runs.encoders import Encoders, load_encoders
from open_ldm.runs.ordering import settle_order
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import buckets_of
from open_ldm.transfer_learning.start import StartingPoint


@dataclass(frozen=True)
class Opened:
    """Data and encoders of a run, the same for every process.

    Attributes:
        recipe: With the order of its samples and the format of its autoencoder filled in.
        order: That order, and why.
        source: The pictures.
        seen: What a look at them found.
        health: Counts those that cannot be read.
        encoders: Autoencoder and text encoder.
        batches: What the trainer reads.
        known: What the model knows of the data.
        notes: What the first screen should say, a line each.
    """

    recipe: Recipe
    order: ChosenOrder
    source: Source
    seen: DataSurvey
    health: Health
    encoders: Encoders
    batches: Batches
    known: Knowledge
    notes: tuple[str, ...]


def open_run(
    recipe: Recipe, start: StartingPoint | None, context: RunContext, saved: Mapping[str, Any] | None, *, silent: bool
) -> Opened:
    """Open the data of a run, and say on the way what is waited for.

    Args:
        recipe: Settled but for the order of its samples and the format of its autoencoder.
        start: What the weights come from; None where they are random.
        context: Folder, machine and processes.
        saved: The manifest of the checkpoint that the run goes on from: it keeps what it knew, so that new pictures move
            neither its vocabulary nor its latents. None where the run begins.
        silent: Nothing is printed.
    """
    world, slow = context.world, SlowSteps(silent=silent)
    source = slow("looking for the pictures", open_training_data, recipe)
    remembered = isinstance(source, CachedSource)
    world.agreed("where the data are", "the cache alone" if remembered else "pictures", fix="cache.frozen=true on all")
    recipe, order = settle_order(recipe, source, begun=saved is not None)
    seen = slow(f"reading {len(source):,} pictures", survey_for, recipe.conditioning.controls, source)
    health = count_bad_samples(context.folder.health, source, seen.bad, writes=world.leads)
    before = None if saved is None else Knowledge.from_json(saved)
    facts = read_facts(recipe, source, seen, before.facts if before else None, start.settings.spec.facts if start else None)
    of_start = start.settings.spec.facts.autoencoder if start else None
    recipe, told = settle_format(recipe, source, context.machine, world, context.stop, of_start=of_start, silent=silent)
    loading = "loading the autoencoder and the text encoder"
    encoders = slow(loading, load_encoders, recipe, source, facts, context.machine)
    facts = encoders.sign(facts)
    seen = replace(seen, buckets=slow("reading the sizes of pictures", buckets_of, recipe.transform, source, world))
    batches = _batches(recipe, source, facts, encoders, seen.buckets, health, context, silent=silent)
    known = Knowledge(facts, slow("measuring latents", batches.stats_of_all, world) if before is None else before.stats)
    gone = vanished_classes(facts.class_names, source.class_names)
    notes = (*told, *from_latents(source), *gone, *seen.few(recipe.training.batch_size))
    if remembered and recipe.evaluation is not None:
        notes += ("evaluation: samples are not measured on the way, since the training pictures are not at hand",)
    return Opened(recipe, order, source, seen, health, encoders, batches, known, notes)


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
