"""What a training run writes while it goes on: events, progress, previews, checkpoints, the report, exit.json."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.config import to_yaml
from open_ldm.core.device import Machine
from open_ldm.core.errors import DiskError, DiskFullError
from open_ldm.core.events import Event, EventLog, Progress, duration
from open_ldm.core.files import write_json
from open_ldm.core.signals import StopRequest
from open_ldm.data.health import Health
from open_ldm.data.sample import BadSample, Batch
from open_ldm.data.survey import DataSurvey
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.report.page import Section, write_report
from open_ldm.runs.already_done import has_averages, is_told
from open_ldm.runs.saving import Saving, is_due
from open_ldm.runs.tracked import tracked_run
from open_ldm.runs.training_recipe import TrainingRecipe
from open_ldm.text.survey import CaptionSurvey
from open_ldm.tracking.feed import Feed
from open_ldm.training.fingerprint import compare
from open_ldm.training.length import length_change
from open_ldm.training.loop import Every, Hooks, Report
from open_ldm.training.settings import TrainingConfig
from open_ldm.training.trainer import Trainer
from open_ldm.training.update import Update

_REPORT_EVERY_SECONDS = 30.0  # a page costs most of a second, which a run that saves every few seconds would notice


@dataclass(kw_only=True)
class RunRecorder(ABC):
    """Context manager around a training loop; only the leading process writes.

    A subclass says what is trained, what a checkpoint must hold besides, and what is shown on the way.

    Attributes:
        folder: The run folder.
        recipe: The run's, settled.
        trainer: Holds the state that is saved.
        health: Counts bad samples.
        store: Writes checkpoints.
        fingerprint: What must be equal for bit-equal training.
        stop: The signal that ends the run.
        silent: No progress is shown.
        last_loss: Mean loss of the last report; None before the first.
        preview_event: Name of the event that a preview writes.
    """

    folder: RunFolder
    recipe: TrainingRecipe
    trainer: Trainer[Any, Any]
    health: Health
    store: SharedCheckpoints
    fingerprint: Mapping[str, str]
    stop: StopRequest
    silent: bool
    last_loss: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _reported: float = field(default_factory=time.perf_counter)
    _bad: list[BadSample] = field(default_factory=list)

    preview_event: ClassVar[str] = "preview"

    @property
    @abstractmethod
    def network(self) -> str:
        """What is trained, in a few words."""

    @abstractmethod
    def knowledge(self) -> Mapping[str, Any]:
        """Return what a checkpoint's manifest holds besides recipe and counters, as plain data."""

    @abstractmethod
    def preview(self) -> None:
        """Show how far training has got; this is called in the leading process alone."""

    def while_it_computes(self, report: Report) -> dict[str, float]:
        """Say what shows only while training computes, and return what the event log says besides."""
        return {}

    def sections(self) -> Sequence[Section]:
        """Return the parts of the report that only this kind of run has."""
        return ()

    def checks(self) -> Sequence[Every]:
        """Return what else is measured on the way, by all processes together."""
        return ()

    def long_checks(self) -> Sequence[Every]:
        """Return what may take so long that a checkpoint due at the same place comes first."""
        return ()

    @property
    def preview_every_samples(self) -> int:
        """How often previews are made; 0 is never."""
        return self.recipe.training.preview_every_samples

    def __enter__(self) -> RunRecorder:
        self._leads = self.trainer.world.leads
        self._feed = Feed(self.recipe.track if self._leads else (), self.folder.path, self.warn, leads=self._leads)
        self._events = EventLog(self.folder.events) if self._leads else None
        self._saving = Saving(self.store, self.trainer, self._content, self)
        self._progress = Progress(self.recipe.training.samples, start=self.samples_seen, silent=self.silent or not self._leads)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._saving.leave(error)
        self._progress.close()
        self._feed.end(None)
        if self._events is not None:
            self._events.close()

    @property
    def samples_seen(self) -> int:
        """Samples that the model has learned from."""
        return self.trainer.state.counters.samples_seen

    def begin(
        self,
        seen: DataSurvey,
        captions: CaptionSurvey | None,
        machine: Machine,
        command: Sequence[str],
        problems: Sequence[str],
        resumed: Mapping[str, Any] | None,
        notes: Sequence[str] = (),
    ) -> None:
        """Write down and show what is about to happen.

        Args:
            seen: Survey of the data.
            captions: Survey of the captions; None for a model that reads none.
            machine: Where the run computes.
            command: Command line.
            problems: One line for each checkpoint that was passed over.
            resumed: Content of the manifest that the run goes on from; None for a new run.
            notes: What else the user should know of how the run begins, one line each.
        """
        parameters = sum(parameter.numel() for parameter in self.trainer.state.model.parameters())
        self.say(f"{self.recipe.title}: {seen.said}")
        self.say(f"{self.network} with {parameters:,} parameters on {machine.sentence}; run {self.folder.path}")
        if shared := self.trainer.sharing.sentence:
            self.say(shared)
        self.trainer.world.everyone(partial(self._write_first, seen, captions), "the first files of the run")
        facts: dict[str, Any] = {"argv": list(command), "cwd": Path.cwd(), "total_samples": self.recipe.training.samples}
        facts |= {"device": machine.sentence} | ({"processes": size} if (size := self.trainer.world.size) > 1 else {})
        if resumed is None:
            now = self.event("start", **facts, parameters=parameters, data=seen.sentence, fingerprint=dict(self.fingerprint))
        else:
            bitwise = compare(resumed["fingerprint"], self.fingerprint)
            now = self.event("resume", **facts, bitwise=bitwise, fingerprint=dict(self.fingerprint))
            self.say(f"going on at {self.samples_seen:,} samples; bitwise: {bitwise}")
            saved = TrainingConfig.model_validate(resumed["recipe"]["training"])
            if change := length_change(saved, self.recipe.training, self.samples_seen):  # and what it does to the learning rate
                self.event("length", message=change.sentence(), **change.to_json())
                self.say(change.sentence())
        for line in self._feed.begin(tracked_run(self.recipe, self.folder.path, command), now):
            self.say(line)
        passed_over = [f"checkpoint passed over: {problem}" for problem in problems]
        for warning in [*notes, *passed_over, *seen.problems(), *([] if captions is None else captions.problems())]:
            self.warn(warning)
        if self.health.bad:
            self.warn(self.health.sentence())

    def _write_first(self, seen: DataSurvey, captions: CaptionSurvey | None) -> None:
        self.folder.exit.unlink(missing_ok=True)
        self.folder.write_config(to_yaml(self.recipe))
        survey = {name: value for name, value in seen.to_json().items() if name != "sentence"}
        survey |= {} if captions is None else {"captions": captions.to_json()}
        write_json(self.folder.data, {"sentence": seen.sentence, "survey": survey})

    def hooks(self) -> Hooks:
        """Return what the loop calls on the way."""
        training, previewed = self.recipe.training, partial(self._saving.if_room, self._previewed, "no preview was made")
        return Hooks(
            report=self._report,
            batch_read=self._batch_read,
            not_finite=self._not_finite,
            roll_back=self._roll_back,
            stop_requested=lambda: self.stop.name is not None,
            after_update=self._saving.take,
            every=[
                Every(self.preview_every_samples, previewed, is_told(self.preview_event, self.folder, self.trainer)),
                *self.checks(),
                Every(training.snapshot_every_samples, self._saving.keep_averages, has_averages(self.folder, self.trainer)),
                Every(training.checkpoint_every_samples, self._save_if_room),
                *self.long_checks(),
            ],
        )

    def end(self, finished: bool) -> int:
        """Save if the run was stopped, write how it ended and the report; returns the exit code, 0 or 75."""
        if not finished:
            self.save()
        code = 0 if finished else 75
        seconds = time.perf_counter() - self._started
        reason = "all samples seen" if finished else f"stopped by {self.stop.name or 'another process'} and saved"
        self.event("end", code=code, reason=reason, seconds=round(seconds, 1))
        if self._events is not None:
            self._events.flush()
        self.trainer.world.everyone(partial(self._write_last, code, reason), "the last files of the run")
        self._feed.end(code)
        self._progress.close()
        self.say(f"{reason} at {self.samples_seen:,} samples after {duration(seconds)}; report: {self.folder.report}")
        return code

    def _write_last(self, code: int, reason: str) -> None:
        self.folder.write_exit(code, reason, self.samples_seen, "run the same command again to go on" if code else "")
        self._write_report()

    def save(self) -> None:
        """Write a checkpoint before training goes on. Raises DiskError where the disk refuses."""
        self._saving.save()

    def _save_if_room(self) -> None:
        self._saving.if_room(self._saving.begin, "nothing was saved")
        if self._leads and time.perf_counter() - self._reported >= _REPORT_EVERY_SECONDS:
            with self._saving.pause("a new report.html"):
                self._write_report()

    def _content(self) -> Mapping[str, Any]:
        return {
            "counters": self.trainer.state.counters_to_json(),
            "fingerprint": dict(self.fingerprint),
            "recipe": self.recipe.model_dump(mode="json"),
            **self.knowledge(),
        }

    def _write_report(self) -> None:
        """Refresh the page; a page that cannot be written is no reason to end a good run."""
        try:
            write_report(self.folder.path, self.sections())
        except DiskError as error:
            self.warn(error.one_line())
        self._reported = time.perf_counter()

    def _previewed(self) -> None:
        with self.trainer.averaged(here=self._leads):
            self.trainer.world.everyone(self.preview, "a preview")

    def _report(self, report: Report) -> None:
        if self.trainer.world.size > 1:
            self._count_bad()
        more = self.while_it_computes(report)
        self.last_loss = report.loss
        self.event("train", **{name: value for name, value in (asdict(report) | more).items() if name != "samples_seen"})
        self._progress.update(
            report.samples_seen, loss=report.loss, data_wait_share=report.data_wait_share, peak_share=more.get("peak_share")
        )

    def _batch_read(self, batch: Batch | EncodedBatch) -> None:
        self._bad.extend(batch.bad)
        if self._bad and self.trainer.world.size == 1:
            self._count_bad()

    def _count_bad(self) -> None:
        """Add what every process found; all of them reach the same verdict. Raises DataError beyond the budget."""
        found = [sample for bad in self.trainer.world.gathered(self._bad, "bad samples") for sample in bad]
        self._bad.clear()
        new = self.health.add(found)
        for sample in new:
            self.warn(f"bad sample {sample.id}: {sample.reason} {sample.detail}".rstrip() + " (another one takes its place)")
        if new and self._leads:
            with suppress(DiskFullError):  # the log names them all, and the next bad sample writes the file
                write_json(self.folder.health, self.health.to_json())
        self.health.check()

    def _not_finite(self, update: Update) -> None:
        if update.rescaled:
            self.event_at(update.samples_seen, "loss_scale", scale=(scale := self.trainer.state.counters.loss_scale))
            why = f"an fp16 gradient overflowed; loss scale {scale:,} from here"
        else:
            self.event_at(update.samples_seen, "nonfinite", loss=update.loss, grad_norm=update.grad_norm)
            why = f"loss {update.loss}, gradient norm {update.grad_norm}"
        self.say(f"update skipped at {update.samples_seen:,} samples: {why}")

    def _roll_back(self) -> bool:
        self._saving.take(wait=True)
        checkpoint, _ = self.store.newest_of_all(partial(is_due, self.recipe.training))  # as without a stop in between
        if checkpoint is None:
            return False
        self._saving.go_back(checkpoint)
        self.warn(f"went back to the weights of {checkpoint.path.name} and on with the data that follow")
        return True

    def event(self, event: str, /, **fields: Any) -> Event:
        """Append to the run's event log, then send to its trackers."""
        return self.event_at(self.samples_seen, event, **fields)

    def event_at(self, samples_seen: int, event: str, /, **fields: Any) -> Event:
        """Do the same as of another position than the model's."""
        if self._events is not None:
            self._events.write(event, samples_seen=samples_seen, **fields)
            self._feed.event(Event(event, "", samples_seen, fields))
        return Event(event, "", samples_seen, fields)

    def warn(self, message: str) -> None:
        """Say what went wrong, and write it down."""
        self.event("warning", message=message)
        self.say(f"warning: {message}")

    def say(self, text: str) -> None:
        """Show one lasting line to the person who watches."""
        if self._leads:
            self._progress.say(text)
