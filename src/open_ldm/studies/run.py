"""Run a study: train arm by arm, measure each with one protocol, and write what there is after every arm."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_ldm.autoencoders import MeasuredStats
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.commands.devices import Training, train_over
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.fit_features import fit_features
from open_ldm.controls.data import survey_for
from open_ldm.core.device import set_up_machine
from open_ldm.core.errors import StoppedError
from open_ldm.core.files import write_json
from open_ldm.core.overrides import last_given
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.features.classifier import DESCRIPTION
from open_ldm.evaluation.features.classifier_fit import FitConfig, is_fitted
from open_ldm.pages.charts import Format
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.batches import live_batches
from open_ldm.runs.build import read_facts
from open_ldm.runs.catalogue import with_edition
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.recipe import Recipe, load_recipe, recipe_from
from open_ldm.runs.shapes import buckets_of
from open_ldm.runs.starting import settle_for_folder
from open_ldm.runs.train import require_same_recipe, train
from open_ldm.sources.loader import open_data
from open_ldm.studies.begun import as_study_begun, require_folder_of
from open_ldm.studies.changes import require_arms_differ
from open_ldm.studies.choice import Choice, require_known
from open_ldm.studies.found import SettingFound, StudyFound
from open_ldm.studies.measure import Evaluator, extractor_settings
from open_ldm.studies.points import drop_saved_by_stops, is_point
from open_ldm.studies.report import write_study
from open_ldm.studies.results import Measured, read_measured, write_measured
from open_ldm.studies.study import Setting, Study, slug

MEASURED = "measured"
_STATS = "latent_stats.json"
_FEATURES = "features"


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


class Runner:
    """Runs one study at one scale in the folder `out`, going on from what it holds.

    `figure_format`: the study's charts are also written as files of that kind beside its page.
    """

    def __init__(
        self,
        study: Study,
        scale: str,
        out: Path,
        choice: Choice,
        command: Sequence[str] = (),
        *,
        silent: bool = False,
        figure_format: Format | None = None,
    ) -> None:
        self.study, self._notes = as_study_begun(study, scale, out)
        self.scale, self.out, self.choice, self.silent = scale, out, choice, silent
        self.figure_format = figure_format
        self.command = tuple(command)
        require_known(study, scale, choice.only)
        require_arms_differ(self.study, scale, choice.overrides)
        require_folder_of(study, scale, out)

    def run(self) -> StudyFound:
        """Train, measure and write. Raises StoppedError when a signal ended it; the same command goes on."""
        for note in self._notes:
            print(f"note: {note}", file=sys.stderr)
        try:
            for setting in self.study.settings(self.scale):
                if any(self.choice.takes(self.study, setting, arm) for arm in setting.arms):
                    self._train_and_measure(setting)
        except StoppedError:
            self.write()
            raise
        return self.write()

    def _train_and_measure(self, setting: Setting) -> None:
        """Bring every arm to its end; the page is written after each one that was measured anew."""
        stats = self._stats(setting)
        evaluator = self._evaluator(setting)
        jobs = list(jobs_of(self.study, setting, self.out, self.choice, stats))
        trainings = [each for job in jobs for each in (job.start, job) if each is not None]
        for done in [each for each in trainings if each.finished]:
            require_same_training(done)  # before hours are spent on the others
        for begun in [each for each in trainings if not each.finished]:
            drop_saved_by_stops(begun.run, begun.recipe.training)
        if self.choice.devices:
            self._train_over(jobs)
        for job in jobs:
            self._say(f"{setting.name}, {job.arm}, seed {job.seed}")
            for each in (job.start, job):
                if each is not None and not each.finished:
                    self._train(each)
            try:
                new = self._measure(setting, job, evaluator)
            except StoppedError as error:
                raise self._stopped(error.problem) from None
            if new:
                self.write()

    def write(self) -> StudyFound:
        """study.json and study.html of what has been measured so far."""
        settings = []
        for setting in self.study.settings(self.scale):
            jobs = list(jobs_of(self.study, setting, self.out, self.choice, self._kept_stats(setting)))
            protocol = {job.arm: self._named(setting, job.arm) for job in jobs}
            measured = [
                each
                for job in jobs
                for each in read_measured(job.folder / f"{MEASURED}.json")
                if each.protocol == protocol[job.arm]
            ]
            commands = list(dict.fromkeys(shlex.join(each.command) for job in jobs for each in (job.start, job) if each))
            folders = {(job.arm, job.seed): job.folder for job in jobs}
            settings.append(
                SettingFound(setting, tuple(measured), folders, len(jobs), tuple(commands), self._accuracy(setting))
            )
        found = StudyFound(self.study, self.scale, tuple(settings), self.command)
        write_study(found, self.out, self.figure_format)
        return found

    def _train_over(self, jobs: Sequence[Job]) -> None:
        """First what others start from, then all that is not trained yet."""
        for wave in ([job.start for job in jobs if job.start], jobs):
            missing = {job.run: Training(job.run, job.command) for job in wave if not job.finished}
            try:
                train_over(self.choice.devices, list(missing.values()), self._say)
            except StoppedError as error:
                raise self._stopped(error.problem) from None

    def _train(self, job: Job) -> None:
        result = train(job.recipe, job.run, silent=self.silent, command=job.command)
        if result.code == StoppedError.exit_code:
            raise self._stopped("stopped and saved")

    def _stopped(self, problem: str) -> StoppedError:
        return StoppedError(problem, fix=f"go on with: {shlex.join(self.command)}" if self.command else "go on")

    def _measure(self, setting: Setting, job: Job, evaluator: Evaluator) -> bool:
        """Measure what has not been measured yet; returns whether anything was."""
        file, arm = job.folder / f"{MEASURED}.json", setting.arms[job.arm]
        named = evaluator.named(arm)
        done = {each.samples_seen: each for each in read_measured(file) if each.protocol == named}
        found: list[Measured] = []
        for model in self._models(setting, job):
            seen = samples_seen_of(model.name)
            if seen not in done:
                self._say(f"  measured after {seen:,} samples")
            found.append(done[seen] if seen in done else evaluator.measure(job.arm, arm, job.seed, model, job.folder))
            write_measured(file, found)
        return any(each.samples_seen not in done for each in found)

    def _models(self, setting: Setting, job: Job) -> list[Path]:
        """Checkpoints to measure, in the order of training; none that a stop saved in between, where other seeds have none."""
        training, points = job.recipe.training, setting.protocol.points
        seen = {name: samples_seen_of(name) for name in sorted(CheckpointFolder(job.run / "checkpoints").names())}
        names = [name for name, count in seen.items() if is_point(training, count)]
        return [job.run / "checkpoints" / name for name in names[-points:]]

    def _evaluator(self, setting: Setting) -> Evaluator:
        features = setting.protocol.features
        fitted = self._fitted(setting)
        if isinstance(features, FitConfig) and not is_fitted(fitted, features):
            self._say(f"{setting.name}: features are fitted on its data")
            try:
                fit_features(self._base(setting).data, fitted, features, silent=self.silent, replace=True)
            except StoppedError as error:
                raise self._stopped(error.problem) from None
        return self._evaluator_as_is(setting)

    def _evaluator_as_is(self, setting: Setting) -> Evaluator:
        settings = extractor_settings(setting.protocol, self._fitted(setting))
        config = EvaluationConfig.model_validate({"metrics": setting.protocol.metrics, "extractors": settings})
        return Evaluator(setting.protocol, config.extractors, self.out / "references")

    def _named(self, setting: Setting, arm: str) -> str:
        return self._evaluator_as_is(setting).named(setting.arms[arm])

    def _accuracy(self, setting: Setting) -> float | None:
        """Of the fitted classifier on held-out pictures."""
        file = self._fitted(setting) / DESCRIPTION
        return float(parse_json(file.read_text(encoding="utf-8"))["accuracy"]) if file.is_file() else None

    def _fitted(self, setting: Setting) -> Path:
        return self.out / slug(setting.name) / _FEATURES

    def _base(self, setting: Setting) -> Recipe:
        return load_recipe(setting.recipe, [*setting.changes, *self.choice.overrides])

    def _stats(self, setting: Setting) -> str | None:
        """Latent statistics of the setting's own recipe, so that the losses of all arms and seeds are in one unit."""
        recipe = self._base(setting)
        if not isinstance(recipe.latent_stats, MeasuredStats):
            return None
        file = self.out / slug(setting.name) / _STATS
        if not file.is_file():
            machine, source = set_up_machine("auto", "auto"), open_data(recipe.data)
            facts = read_facts(recipe, source, survey_for(recipe.conditioning.controls, source))
            encoders, buckets = load_encoders(recipe, source, facts, machine), buckets_of(recipe.transform, source)
            measured = live_batches(recipe, source, facts, encoders, buckets).latent_stats()
            write_json(file, measured.as_given().model_dump(mode="json"))
        return self._kept_stats(setting)

    def _kept_stats(self, setting: Setting) -> str | None:
        file = self.out / slug(setting.name) / _STATS
        if not file.is_file():
            return None
        content: Any = parse_json(file.read_text(encoding="utf-8"))
        return f"latent_stats={json.dumps(content)}"

    def _say(self, text: str) -> None:
        if not self.silent:
            print(text, flush=True)
