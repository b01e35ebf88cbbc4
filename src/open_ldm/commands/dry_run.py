"""`ldm train RECIPE --dry-run`: resolve, build and count a recipe of any scale, without data and without memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.autoencoders import LatentStats, latent_shape
from open_ldm.commands.absent import absent_device
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import ViewShape
from open_ldm.controls.data import survey_for
from open_ldm.core.config import to_yaml
from open_ldm.core.counted import counted
from open_ldm.model.count import count_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts
from open_ldm.run_folder.report.stages import SHOWN, cells_of
from open_ldm.runs.build import read_facts
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import largest_shape
from open_ldm.runs.stages import Stage, named_in_errors
from open_ldm.runs.starting import settle_if_present, settle_recipe, trained_settings
from open_ldm.sources.files import NoSuchPath
from open_ldm.sources.loader import open_data
from open_ldm.text import WordsConfig
from open_ldm.tracking import check_trackers
from open_ldm.transfer_learning.expected import skeleton
from open_ldm.transfer_learning.start import Started, StartingPoint, start_without_numbers

ASSUMED_CLASSES = 1000


@dataclass(frozen=True)
class DryRun:
    """A recipe that builds. `data`: what the data set holds, or that it is not here and what was assumed of it. `start`: the
    run that it starts from, or the name of one that is not here; None when it starts from random numbers. `absent`: what is
    not on this machine, one line each."""

    recipe: Recipe
    facts: DataFacts
    data: str
    parameters: int
    gmacs: float
    training_gmacs: float
    start: Started | str | None = None
    absent: tuple[str, ...] = ()

    def text(self) -> str:
        """The resolved recipe, then the counts."""
        updates = -(-self.recipe.training.samples // self.recipe.training.batch_size)
        return (
            f"{to_yaml(self.recipe)}\n# data: {self.data}\n"
            f"# model: {self.parameters:,} parameters, {self.gmacs:.2f} GMACs per picture{self._passes()}\n"
            f"{self._start()}"
            f"# training: {self.recipe.training.samples:,} samples in {counted(updates, 'update')}"
        )

    def _passes(self) -> str:
        """What a training step runs, where it is not one plain pass."""
        return "" if self.training_gmacs == self.gmacs else f", {self.training_gmacs:.2f} in training"

    def _start(self) -> str:
        if isinstance(self.start, Started):
            return f"{self.start.text()}\n\n"
        return (
            ""
            if self.start is None
            else f"# starts from {self.start}, which is not here: positions and noise will follow from it\n"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data,
            "parameters": self.parameters,
            "gmacs": round(self.gmacs, 3),
            "training_gmacs": round(self.training_gmacs, 3),
            "transfer": self.start.to_json() if isinstance(self.start, Started) else None,
            "absent": list(self.absent),
        }


def dry_run(recipe: Recipe) -> DryRun:
    """Build on the meta device. Without the data at hand the model is counted for 1000 classes, or for no words.

    Raises what training would raise for data that are there but of no use to this recipe, and for a run to start from.
    """
    return _built(*settle_if_present(recipe))


def dry_run_stages(stages: Sequence[Stage]) -> list[DryRun]:
    """What each stage of a recipe will be, started from what the one before will leave; none of them need have been trained.

    Raises as `dry_run`, and names the stage.
    """
    done: list[tuple[Stage, DryRun]] = []
    for stage in stages:
        with named_in_errors(stage):
            source = next((_as_it_will_end(other, its_run) for other, its_run in done if stage.starts_from(other)), None)
            if source is None:
                run = dry_run(stage.recipe)
            else:
                run = _built(settle_recipe(stage.recipe, source.settings.sized), source)
        done.append((stage, run))
    return [run for _, run in done]


def stages_text(stages: Sequence[Stage], runs: Sequence[DryRun]) -> str:
    """Each stage as `DryRun.text` tells it, then all beside one another."""
    texts = [f"# stage {stage.name}\n{run.text()}" for stage, run in zip(stages, runs, strict=True)]
    rows = [["# stage", "samples", *SHOWN]]
    for stage, run in zip(stages, runs, strict=True):
        rows.append([f"# {stage.name}", f"{run.recipe.training.samples:,}", *cells_of(run.recipe.model_dump(mode="json"))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n\n".join([*texts, "\n".join(lines)])


def _as_it_will_end(stage: Stage, run: DryRun) -> StartingPoint:
    """What the next stage will start from, without numbers. Of its latents nothing is said: they have yet to be measured."""
    unmeasured = LatentStats((0.0,) * run.facts.channels, (1.0,) * run.facts.channels)
    return StartingPoint(
        path=stage.folder.path,
        checkpoint="its last checkpoint",
        samples_seen=run.recipe.training.samples,
        settings=trained_settings(run.recipe, Knowledge(run.facts, unmeasured)),
        tensors=skeleton(run.recipe.trained_spec(run.facts)).state_dict(),
        sha256="",
        problems=(),
    )


def _built(recipe: Recipe, source: StartingPoint | None) -> DryRun:
    check_trackers(recipe.track)
    absent = absent_device(recipe.training)
    try:
        pictures = open_data(recipe.data, captions=recipe.conditioning.reads_captions)
    except NoSuchPath as error:
        facts, data = assumed_facts(recipe), f"not here ({error.problem}){_assumption(recipe)}"
        absent.insert(0, error.problem)
    else:
        seen = survey_for(recipe.conditioning.controls, pictures, 200, transform=recipe.transform)
        there = None if source is None else source.settings.spec.facts
        facts, data = read_facts(recipe, pictures, seen, start=there), seen.said
    largest = latent_shape(recipe.autoencoder, *largest_shape(recipe.transform))
    count = count_model(recipe.trained_spec(facts), largest[1:])
    start = _start(recipe, facts, source)
    absent += [f"there is no run {start}"] if isinstance(start, str) else []
    return DryRun(recipe, facts, data, count.parameters, count.gmacs, count.training_gmacs, start, tuple(absent))


def _start(recipe: Recipe, facts: DataFacts, source: StartingPoint | None) -> Started | str | None:
    if recipe.init_from is None or source is None:
        return recipe.init_from.source if recipe.init_from else None
    known = Knowledge(facts, source.settings.latent_stats)
    return start_without_numbers(trained_settings(recipe, known), source, recipe.init_from)


def _assumption(recipe: Recipe) -> str:
    match recipe.conditioning.semantic:
        case ClassSemantic():
            return f"; counted for {ASSUMED_CLASSES} classes"
        case TextSemantic(encoder=WordsConfig()):
            return "; counted without the vectors of the words that the data will bring"
        case _:
            return ""


def assumed_facts(recipe: Recipe) -> DataFacts:
    """What is taken for granted of data that are not here."""
    size = recipe.data.transform
    classes = ASSUMED_CLASSES if isinstance(recipe.conditioning.semantic, ClassSemantic) else 0
    return DataFacts(
        channels=recipe.latent_shape[0],
        view=ViewShape(size.height_px, size.width_px, min(size.height_px, size.width_px), shapes=recipe.transform.shapes),
        class_names=tuple(str(index) for index in range(classes)),
        latent_size=recipe.latent_shape[1:],
    )
