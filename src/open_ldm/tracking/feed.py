"""Feeds the trackers of a run from its event log: nothing twice, nothing backwards, and no failure that stops a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from open_ldm.core.errors import ConfigError, DiskError, OpenLdmError, cut
from open_ldm.core.events import Event, effective_events, read_events
from open_ldm.evaluation.stored import stored_results
from open_ldm.tracking.base import TrackedRun, Tracker
from open_ldm.tracking.scalars import PREVIEW, TRACKED, curves_of, key_of_result, scalars_of, scalars_of_result
from open_ldm.tracking.sent import FILE, Sent, read_sent, write_sent

EVENTS = "events.jsonl"
_NOTHING = -1
_REASON_LENGTH = 140


@dataclass
class _Line:
    """A tracker at work: what is written down of it, and the last step of each curve that it was sent, by name."""

    tracker: Tracker
    sent: Sent
    until: dict[str, int]


class Feed:
    """Sends events to trackers.

    The event log is the truth: each event is written there first, and then sent. Each curve is followed on its own, since a
    tracker may take the loss of a step and fail at its preview. What a tracker has is told by itself where it can (all three
    of the package on this machine); else everything in the log was sent, but for what failed. Work that was lost with a killed
    process is done again with the same numbers, and is not sent again. What a tracker missed, since it failed, was left out or
    was added later, is sent from the log.

    Args:
        trackers: Those of the recipe.
        folder: The run folder, in which this process has written no event yet.
        warn: Is told, once, of a tracker that fails.
        leads: Whether this process is the one that writes to the folder; the others do nothing.
    """

    def __init__(self, trackers: Sequence[Tracker], folder: Path, warn: Callable[[str], None], *, leads: bool = True) -> None:
        self._leads = leads
        self._trackers, self._folder, self._warn, self._training = trackers, folder, warn, ""
        self._before = read_events(folder / EVENTS) if trackers or (folder / FILE).is_file() else []
        self._lines: list[_Line] = []
        self._sent: dict[str, Sent] = {}

    def begin(self, run: TrackedRun, now: Event | None = None) -> list[str]:
        """Begin with each tracker, or go on, and send what it missed.

        Args:
            run: What the trackers are told.
            now: The event with which this process begins; None where it trains nothing.

        Returns:
            Where to look, one line for each tracker.
        """
        self._training = _training_of(now)
        kinds = [tracker.kind for tracker in self._trackers]
        self._sent = read_sent(self._folder, kinds, self._training)
        if not self._leads or not self._sent:
            return []
        for kind, sent in self._sent.items():
            if kind not in kinds and sent.until is None:  # left out by this process, whose events it will miss
                sent.until = self._logged()
        for tracker in self._trackers:
            sent = self._sent[tracker.kind]
            first = not sent.id
            line = _Line(tracker, sent, {} if first else _held(sent.until, self._logged()))
            self._guarded(line, partial(self._begun, line, run, now, first=first))
        self._write()
        self._evaluations()
        return [f"tracked by {line.tracker.kind}: {line.tracker.place}" for line in self._lines]

    def event(self, event: Event) -> None:
        """Send an event that was written to the log."""
        if event.name in TRACKED:
            for line in list(self._lines):
                self._guarded(line, partial(self._send, line, event))

    def end(self, code: int | None) -> None:
        """Send the evaluations that came meanwhile, and close; ending twice is harmless."""
        self._evaluations()
        lines, self._lines = self._lines, []
        for line in lines:
            try:
                line.tracker.end(code)
            except Exception as error:
                self._say(line, error)

    def _begun(self, line: _Line, run: TrackedRun, now: Event | None, *, first: bool) -> None:
        line.sent.id = line.tracker.begin(replace(run, id=line.sent.id))
        self._write()
        if not first:
            line.until = _held(line.tracker.held(), line.until)
        self._lines.append(line)
        for event in effective_events([*self._before, *([] if now is None else [now])]):
            self._send(line, event)
        line.sent.until = None

    def _logged(self) -> dict[str, int]:
        """The last step of each curve in the event log, as it was before this process."""
        last: dict[str, int] = {}
        for event in self._before:
            for name in curves_of(event):
                last[name] = max(last.get(name, _NOTHING), event.samples_seen)
        return last

    def _send(self, line: _Line, event: Event) -> None:
        """Send what a tracker lacks of an event, and note it once it was taken."""
        step = event.samples_seen
        lacking = [name for name in curves_of(event) if step > line.until.get(name, _NOTHING)]
        if not lacking:
            return
        if event.name == PREVIEW:
            shown = event.fields.get("prompts")
            captions = [str(one) for one in shown] if isinstance(shown, list) else []
            if (file := self._folder / event.text("file")).is_file():
                line.tracker.picture(step, PREVIEW, file, captions)
        else:
            numbers = scalars_of(event)
            line.tracker.scalars(step, {name: numbers[name] for name in lacking})
        line.until |= dict.fromkeys(lacking, step)

    def _evaluations(self) -> None:
        """Send the numbers of evaluation.json that were not sent yet."""
        if not self._lines:
            return
        try:
            results = stored_results(self._folder)
        except ConfigError:
            return  # `ldm evaluate` says what is wrong with that file
        for line in list(self._lines):
            for stored in results:
                if (key := key_of_result(stored)) in line.sent.evaluations or stored.samples_seen is None:
                    continue
                step, numbers = stored.samples_seen, scalars_of_result(stored)
                if not self._guarded(line, partial(line.tracker.scalars, step, numbers)):
                    break
                line.sent.evaluations.append(key)
                self._write()

    def _guarded(self, line: _Line, action: Callable[[], None]) -> bool:
        """Act; a tracker that fails is left alone from then on, whatever the reason, and what it has is written down.

        Returns whether it went well.
        """
        try:
            action()
        except Exception as error:
            self._lines = [other for other in self._lines if other is not line]
            line.sent.until = dict(line.until)
            self._write()
            self._say(line, error)
            return False
        return True

    def _say(self, line: _Line, error: Exception) -> None:
        reason = error.one_line() if isinstance(error, OpenLdmError) else f"{type(error).__name__}: {error}"
        reason = cut(" ".join(reason.split()), _REASON_LENGTH)
        self._warn(f"{line.tracker.kind} failed and is sent nothing more by this process; training goes on ({reason})")

    def _write(self) -> None:
        with suppress(DiskError):  # the next change writes it again
            write_sent(self._folder, self._sent, self._training)


def _held(told: Mapping[str, int] | int | None, known: Mapping[str, int]) -> dict[str, int]:
    """The last step of each curve that a tracker has, by what it tells and what is known without it.

    One step for all curves does not say which of them failed before.
    """
    if told is None:
        return dict(known)
    if isinstance(told, int):
        return {name: min(step, told) for name, step in known.items()}
    return dict(told)


def _training_of(now: Event | None) -> str:
    """What a process begins to train, as recipe and data; empty where it goes on, with whatever was begun."""
    traits = now.fields.get("fingerprint") if now is not None and now.name == "start" else None
    return f"{traits.get('recipe')} {traits.get('data')}" if isinstance(traits, Mapping) else ""
