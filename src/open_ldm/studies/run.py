"""Run a study: train arm by arm, measure each with one protocol, and write what there is after every arm."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
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
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.features.classifier import DESCRIPTION
from open_ldm.evaluation.features.classifier_fit import FitConfig, is_fitted
from open_ldm.pages.charts import Format
from open_ldm.runs.autoencoder_format import require_format_by_name
from open_ldm.runs.batches import live_batches
from open_ldm.runs.build import read_facts
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.shapes import buckets_of
from open_ldm.runs.train import train
from open_ldm.sources.loader import open_data
from open_ldm.studies.begun import as_study_begun, require_folder_of
from open_ldm.studies.changes import require_arms_differ
from open_ldm.studies.choice import Choice, require_known
from open_ldm.studies.found import SettingFound, StudyFound
from open_ldm.studies.jobs import Job, is_trained_as_now, jobs_of, require_same_training
from open_ldm.studies.measure import Evaluator, extractor_settings
from open_ldm.studies.points import drop_saved_by_stops, is_point
from open_ldm.studies.report import write_study
from open_ldm.studies.results import Measured, read_measured, write_measured
from open_ldm.studies.study import Setting, Study, slug

MEASURED = "measured"
_STATS = "latent_stats.json"
_FEATURES = "features"


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
        chosen = [each for each in self.study.settings(self.scale) if self._takes(each)]
        for setting in chosen[1:]:
            open_data(self._base(setting).data)  # what is missing is said before hours are spent on the others
        try:
            for setting in chosen:
                self._train_and_measure(setting)
        except StoppedError:
            self.write()
            raise
        return self.write()

    def _takes(self, setting: Setting) -> bool:
        return any(self.choice.takes(self.study, setting, arm) for arm in setting.arms)

    def _train_and_measure(self, setting: Setting) -> None:
        """Bring every arm to its end; the page is written after each one that was measured anew."""
        stats = self._stats(setting)
        evaluator = self._evaluator(setting)
        jobs = list(jobs_of(self.study, setting, self.out, self.choice, stats))
        for done in [each for job in jobs for each in (job.start, job) if each is not None and each.finished]:
            require_same_training(done)  # before hours are spent on the others
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
            stats = self._kept_stats(setting)
            asked = list(jobs_of(self.study, setting, self.out, self.choice, stats))
            there = [*asked, *self._measured_before(setting, asked, stats)]
            measured = [each for job in there for each in self._measured_of(setting, job)]
            commands = list(dict.fromkeys(shlex.join(each.command) for job in there for each in (job.start, job) if each))
            folders = {(job.arm, job.seed): job.folder for job in there}
            requested = frozenset((job.arm, job.seed) for job in asked)
            settings.append(
                SettingFound(setting, tuple(measured), folders, requested, tuple(commands), self._accuracy(setting))
            )
        found = StudyFound(self.study, self.scale, tuple(settings), self.command)
        write_study(found, self.out, self.figure_format)
        return found

    def _measured_before(self, setting: Setting, asked: Sequence[Job], stats: str | None) -> list[Job]:
        """What was not asked for this time and is measured, trained as it would be now."""
        names = {(job.arm, job.seed) for job in asked}
        try:
            others = list(jobs_of(self.study, setting, self.out, replace(self.choice, only=()), stats))
        except ConfigError:
            return []  # a change of the user's that suits the chosen settings alone
        before = [job for job in others if (job.arm, job.seed) not in names and self._measured_of(setting, job)]
        return [job for job in before if is_trained_as_now(job)]

    def _measured_of(self, setting: Setting, job: Job) -> list[Measured]:
        """What was measured of one arm and seed by this protocol."""
        protocol = self._named(setting, job.arm)
        return [each for each in read_measured(job.folder / f"{MEASURED}.json") if each.protocol == protocol]

    def _train_over(self, jobs: Sequence[Job]) -> None:
        """First what others start from, then all that is not trained yet."""
        for wave in ([job.start for job in jobs if job.start], jobs):
            missing = {job.run: Training(job.run, job.command) for job in wave if not job.finished}
            try:
                train_over(self.choice.devices, list(missing.values()), self._say)
                stopped = None
            except StoppedError as error:
                stopped = self._stopped(error.problem)
            for job in wave:  # not after a refusal: what lies there may be of another recipe
                drop_saved_by_stops(job.run, job.recipe.training)
            if stopped is not None:
                raise stopped

    def _train(self, job: Job) -> None:
        result = train(job.recipe, job.run, silent=self.silent, command=job.command)
        drop_saved_by_stops(job.run, job.recipe.training)
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
        recipe = load_recipe(setting.recipe, [*setting.changes, *self.choice.overrides])
        require_format_by_name(recipe)
        return recipe

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
