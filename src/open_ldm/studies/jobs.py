"""The trainings of a study: where each lies, by which recipe and command, and what comes before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.overrides import last_given
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.catalogue import with_edition
from open_ldm.runs.recipe import Recipe, load_recipe, recipe_from
from open_ldm.runs.starting import settle_for_folder
from open_ldm.runs.train import require_same_recipe
from open_ldm.studies.choice import Choice
from open_ldm.studies.study import Setting, Study, slug


@dataclass(frozen=True)
class Job:
    """One arm and seed of a setting: where it trains, where its results lie, its recipe, and the command that trains it."""

    arm: str
    seed: int
    run: Path
    folder: Path
    recipe: Recipe
    command: tuple[str, ...]
    start: Job | None = None
    """The pre-training that comes before."""

    @property
    def samples_trained(self) -> int:
        """Samples seen when training last saved."""
        newest = next(iter(CheckpointFolder(self.run / "checkpoints").names()), None)
        return 0 if newest is None else samples_seen_of(newest)

    @property
    def finished(self) -> bool:
        """Whether training has saved after its last sample."""
        return self.samples_trained >= self.recipe.training.samples


def jobs_of(study: Study, setting: Setting, out: Path, choice: Choice, stats: str | None = None) -> Iterator[Job]:
    """Every arm of a setting for every seed, seed by seed, so that a study that is stopped has whole comparisons.

    `stats`: latent statistics that all arms share, as an override. Raises ConfigError for an arm that is no recipe.
    """
    seeds = setting.seeds if choice.seeds is None else choice.seeds
    shared = (*choice.overrides, *([stats] if stats else []))
    root = out / slug(setting.name)
    for seed in range(seeds):
        for name in setting.arms:
            if not choice.takes(study, setting, name):
                continue
            trained = setting.arms[setting.run_of(name)]
            start = None
            if trained.start is not None:
                source = setting.sources[trained.start.source]
                path = root / f"from-{slug(trained.start.source)}-seed{seed}"
                start = _job(study, trained.start.source, seed, path, path, source.recipe, (*source.changes, *shared))
            changes = [*setting.changes, *trained.changes, *shared]
            if start is not None and trained.start is not None:
                changes.append("init_from=" + json.dumps({"source": str(start.run), **trained.start.options}))
            run = root / f"{slug(setting.run_of(name))}-seed{seed}"
            folder = root / f"{slug(name)}-seed{seed}" / "study"
            changes += _points(setting, trained.recipe or setting.recipe, changes)
            job = _job(study, setting.run_of(name), seed, run, folder, trained.recipe or setting.recipe, tuple(changes))
            yield replace(job, arm=name, start=start)


def _job(study: Study, name: str, seed: int, run: Path, folder: Path, recipe: str, changes: Sequence[str]) -> Job:
    recipe = with_edition(recipe)  # all jobs of a study train the same, also those that another one was begun before
    named = f"name={study.name}-{slug(name)}"
    changes = last_given([*changes, f"training.seed={seed}", named])
    command = ("ldm", "train", recipe, *changes, "--out", str(run))
    return Job(name, seed, run, folder, load_recipe(recipe, changes), command)


def _points(setting: Setting, recipe: str, changes: Sequence[str]) -> list[str]:
    """A checkpoint at every point to be measured, all of them kept."""
    points = setting.protocol.points
    if points == 1:
        return []
    training = load_recipe(recipe, changes).training
    kept = training.samples // training.batch_size + 2  # all, also those of stops
    return [f"training.checkpoint_every_samples={training.samples // points}", f"training.keep_checkpoints={kept}"]


def require_same_training(job: Job) -> None:
    """Raise ConfigError when what lies in a finished job's folder was trained by another recipe, or for longer."""
    folder = RunFolder(job.run)
    recipe, _ = settle_for_folder(job.recipe, folder)
    require_same_recipe(recipe, folder, recipe_from)


def is_trained_as_now(job: Job) -> bool:
    """Tell whether what lies in a job's folder was trained by its recipe."""
    try:
        require_same_training(job)
    except OpenLdmError:
        return False
    return True
