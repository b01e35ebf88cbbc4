"""Run a speedrun: train the recipes in turn, seed by seed, freeze the level by the first one's, find when curves cross."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from open_ldm.autoencoders import MeasuredStats
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.evaluate import evaluate
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls.data import survey_for
from open_ldm.core.device import set_up_machine
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.events import read_events
from open_ldm.core.files import read_json_object, write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.others import cores_of_others
from open_ldm.core.plain_data import parse_json
from open_ldm.core.signals import StopRequest
from open_ldm.evaluation.own_features import FOLDER, own_features
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.own_folder import require_own_folder
from open_ldm.runs.batches import live_batches
from open_ldm.runs.build import read_facts
from open_ldm.runs.catalogue import with_edition
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.shapes import buckets_of
from open_ldm.runs.starting import settle_for_folder
from open_ldm.runs.train import require_same_recipe, train
from open_ldm.sources.loader import open_data
from open_ldm.studies.points import drop_saved_by_stops, is_point
from open_ldm.studies.results import Value
from open_ldm.studies.speedrun.curve import Curve, Point, read_points, seconds_of_training, time_to, write_points
from open_ldm.studies.speedrun.found import Found
from open_ldm.studies.speedrun.level import Level, freeze, frozen_files, read_level
from open_ldm.studies.speedrun.settings import (
    LOSS_PICTURES,
    METRICS,
    Choice,
    Side,
    Training,
    as_begun,
    require_comparable,
    resolved,
    sampling_of_level,
    training_of,
)
from open_ldm.tracking.commit import git_commit

FOUND = "speedrun.json"
_POINTS, _BEGAN, _STATS = "speedrun-points.json", "speedrun-began.json", "latent_stats.json"
_PICTURE_SEED = 0


class Speedrun:
    """Runs recipes against the level of the first in the folder `out`, going on from what it holds.

    Args:
        sides: The recipe that sets the level, then others; see `settings.sides_of`.
        out: The folder.
        choice: How much is trained and measured.
        command: For the record.
        say: Shows a line.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        out: Path,
        choice: Choice,
        command: Sequence[str] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.sides, notes = as_begun(sides, out)
        self.out, self.choice, self.say, self.command = out, choice, say, tuple(command)
        for note in notes:
            say(f"note: {note}")
        self.base = resolved(self.sides[0], choice)
        for side in self.sides[1:]:
            require_comparable(self.base, resolved(side, choice), side.name)
        self.folder = out / "level"
        require_own_folder(out, "speedrun", (self.folder.name, FOUND))
        self.level = read_level(self.folder)
        if self.level is not None and self.level.measured != self.measured:
            raise ConfigError(
                f"the level in {self.folder} was frozen by other settings of measuring or data",
                needed="the same --pictures, --steps, --held-out and data",
                fix="give those, or choose another --out",
            )

    @property
    def measured(self) -> dict[str, Any]:
        """The settings that decide what a value is, as plain data."""
        content = self.base.model_dump(mode="json")
        return {
            "data": {name: content["data"][name] for name in ("source", "transform", "holdout")},
            "process": content["process"],
            "pictures": self.choice.pictures,
            "sampling": sampling_of_level(self.base, self.choice),
            "fit": self.choice.fit.model_dump(mode="json"),
        }

    @cached_property
    def _machine(self) -> str:
        return set_up_machine("auto", "auto").sentence

    def run(self) -> Found:
        """Train, freeze, measure and write speedrun.json. Raises StoppedError after a stop signal; the same command goes on."""
        self._require_enough()
        stats = self._stats()
        seeds = range(self.choice.first_seed, self.choice.first_seed + self.choice.seeds)
        trainings = [training_of(side, seed, self.out, self.choice, stats) for seed in seeds for side in self.sides]
        self._features()
        for each in trainings:  # seed by seed, so that what the machine does besides meets both
            self._train(each)
        level = self.level or self._frozen([each for each in trainings if each.side is self.sides[0]])
        curves: dict[str, list[Curve]] = {side.name: [] for side in self.sides}
        for each in trainings:
            curves[each.side.name].append(self._curve(each, level))
        times = {name: {metric: time_to(of, metric, level.values[metric]) for metric in METRICS} for name, of in curves.items()}
        busy = {name: max(curve.busy for curve in of) for name, of in curves.items()}
        machines = dict.fromkeys(_began(each.run).get("machine") or self._machine for each in trainings)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        found = Found(level, times, busy, "; ".join(machines), git_commit(), self.command, date, tuple(seeds))
        write_json(self.out / FOUND, found.to_json(read_json_object(self.out / FOUND)))
        return found

    def _require_enough(self) -> None:
        """Raise ConfigError, before anything is trained, where too few pictures are held out for a Fréchet distance."""
        held_out, dim = len(open_data(self.base.data, "held_out")), self.choice.fit.network.dim
        if held_out <= dim:
            raise ConfigError(
                f"{held_out:,} pictures are held out",
                needed=f"more than {dim}, the dimensions of the features that see them",
                fix="more data, or a larger share of them by --held-out or data.holdout",
            )

    def _train(self, training: Training) -> None:
        folder, settled = RunFolder(training.run), training.recipe
        if (training.run / "config.yaml").is_file():
            settled, _ = settle_for_folder(training.recipe, folder)
            self._require_same(settled, folder, training.side)
        seen = _seen(training.run)
        if seen >= settled.training.samples and seen in seconds_of_training(read_events(folder.events)):
            return  # one that was lost before the event of its last checkpoint goes on from it, which writes one
        busy = cores_of_others()
        self.say(f"{training.side.name}, seed {training.seed}: {busy:.2f} cores are used by other programs")
        result = train(training.recipe, training.run, silent=False, command=training.command)
        drop_saved_by_stops(training.run, settled.training)
        before = _began(training.run)
        machine = before.get("machine", self._machine)
        busy = max(busy, before.get("busy_cores", 0.0))
        write_json(training.run / _BEGAN, {"busy_cores": busy, "machine": machine})
        if result.code == StoppedError.exit_code:
            raise self._stopped("stopped and saved")

    def _require_same(self, settled: Recipe, folder: RunFolder, side: Side) -> None:
        try:
            require_same_recipe(settled, folder, recipe_from)
        except ConfigError as error:
            if side is self.sides[0]:
                raise
            raise ConfigError(error.problem, needed=error.needed, fix="give this recipe a --name of its own") from None

    def _stopped(self, problem: str) -> StoppedError:
        return StoppedError(problem, fix=f"go on with: {shlex.join(self.command)}")

    def _frozen(self, trainings: Sequence[Training]) -> Level:
        """The level of trainings that have ended: the mean over them."""
        each: dict[str, list[float]] = {metric: [] for metric in METRICS}
        for training in trainings:
            names = sorted(CheckpointFolder(training.run / "checkpoints").names())
            self.say(f"the end of seed {training.seed} is measured")
            values = self._measure(training, names[-1])
            for metric in METRICS:
                each[metric].append(values[metric].value)
        level = Level(
            recipe=shlex.join([with_edition(self.sides[0].recipe), *self.sides[0].changes]),
            measured=json.loads(json.dumps(self.measured)),
            seeds=tuple(training.seed for training in trainings),
            values={metric: sum(values) / len(values) for metric, values in each.items()},
            each={metric: tuple(values) for metric, values in each.items()},
            files=frozen_files(self.folder),
        )
        freeze(self.folder, level)
        return level

    def _curve(self, training: Training, level: Level) -> Curve:
        """Measure checkpoint by checkpoint until the level of every metric is crossed."""
        protocol = hash_content([level.measured, dict(level.files)])
        file = training.run / _POINTS
        seconds = seconds_of_training(read_events(training.run / "events.jsonl"))
        done = {each.samples_seen: each for each in read_points(file, protocol)}
        points: list[Point] = []
        for name in sorted(CheckpointFolder(training.run / "checkpoints").names()):
            seen = samples_seen_of(name)
            if not is_point(training.recipe.training, seen):
                continue  # a stop saved it: a run that was interrupted is measured where others are
            if seen not in done:
                values = self._measure(training, name)
                shown = ", ".join(f"{metric} {one.value:.4g} of {level.values[metric]:.4g}" for metric, one in values.items())
                self.say(f"{training.side.name}, seed {training.seed}, {seconds[seen]:,.0f} s: {shown}")
                done[seen] = Point(seen, seconds[seen], values)
                write_points(file, protocol, [done[each] for each in sorted(done)])
            points.append(done[seen])
            curve = Curve(training.seed, _began(training.run).get("busy_cores", 0.0), tuple(points), max(seconds.values()))
            if all(curve.crossing(metric, level.values[metric]) for metric in METRICS):
                break
        return curve

    def _measure(self, training: Training, checkpoint: str) -> dict[str, Value]:
        """Measure one checkpoint, with the pictures, noise and sampler of the level."""
        text = isinstance(self.base.conditioning.semantic, TextSemantic)
        loss = {"kind": "held_out_loss", "pictures": LOSS_PICTURES, "prediction": self.base.process.prediction}
        content = {
            "metrics": ["fid", loss],
            "extractors": [self._extractor],
            "n": self.choice.pictures,
            "against_n": self.choice.pictures,
            "seed": _PICTURE_SEED,
            "sampling": sampling_of_level(self.base, self.choice),
            "captions": "readable" if text else "all",  # held-out captions have words of their own
            "bootstrap": self.choice.bootstrap,
        }
        found = evaluate(
            training.run / "checkpoints" / checkpoint,
            self.base.data,
            EvaluationConfig.model_validate(content),
            part="held_out",
            out=training.run / "speedrun",
            cache=self.folder / "references",
            silent=True,
        )
        values = {one.estimate.name: one for one in found.results}
        if missing := [metric for metric in METRICS if metric not in values]:
            raise ConfigError(f"{missing[0]} cannot be measured here: {next(iter(found.refused.values()), '')}"[:200])
        return {
            metric: Value(one.estimate.value, one.estimate.low, one.estimate.high, one.protocol.id)
            for metric, one in values.items()
            if metric in METRICS
        }

    def _features(self) -> None:
        """Fit what sees the pictures on the training part, once and before anything is trained."""
        machine, source = set_up_machine("auto", "auto"), open_data(self.base.data)
        place, fit = self.folder / FOLDER, self.choice.fit
        with StopRequest() as stop:
            try:
                features = own_features(source, place, device=machine.device, interrupt=stop.raise_if_requested, config=fit)
            except StoppedError as error:
                raise self._stopped(f"{error.problem} and saved") from None
        self._extractor = features.config.model_dump(mode="json")

    def _stats(self) -> str | None:
        """Latent statistics that all trainings share, so that their losses are in one unit."""
        if not isinstance(self.base.latent_stats, MeasuredStats):
            return None
        file = self.folder / _STATS
        if not file.is_file():
            machine, source = set_up_machine("auto", "auto"), open_data(self.base.data)
            facts = read_facts(self.base, source, survey_for(self.base.conditioning.controls, source))
            encoders, buckets = load_encoders(self.base, source, facts, machine), buckets_of(self.base.transform, source)
            measured = live_batches(self.base, source, facts, encoders, buckets).latent_stats()
            write_json(file, measured.as_given().model_dump(mode="json"))
        return f"latent_stats={json.dumps(parse_json(file.read_text(encoding='utf-8')))}"


def _seen(run: Path) -> int:
    newest = next(iter(CheckpointFolder(run / "checkpoints").names()), None)
    return 0 if newest is None else samples_seen_of(newest)


def _began(run: Path) -> dict[str, Any]:
    """What was noted when a training began: busy cores and the processor; empty before it has ended once."""
    return read_json_object(run / _BEGAN)
