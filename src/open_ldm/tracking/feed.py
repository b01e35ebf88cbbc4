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
from open_ldm.tracking.scalars import PREVIEW, TRACKED, key_of_result, scalars_of, scalars_of_result
from open_ldm.tracking.sent import Sent, read_sent, write_sent

EVENTS = "events.jsonl"
_NOTHING = -1
_REASON_LENGTH = 140


@dataclass
class _Line:
    """A tracker at work: what it was sent, and the last step of each kind of event that it holds."""

    tracker: Tracker
    sent: Sent
    held: Mapping[str, int]


class Feed:
    """Sends events to trackers.

    The event log is the truth: each event is written there first, and then sent. So a process that goes on knows from the log
    what was sent, unless a tracker tells itself what it holds (W&B and Trackio, which write later than they are sent to). Work
    that was lost with a killed process is done again with the same numbers, and is not sent again. What a tracker missed,
    since it failed or was added later, is sent from the log.

    Args:
        trackers: Those of the recipe.
        folder: The run folder, in which this process has written no event yet.
        warn: Is told, once, of a tracker that fails.
    """

    def __init__(self, trackers: Sequence[Tracker], folder: Path, warn: Callable[[str], None]) -> None:
        self._trackers, self._folder, self._warn, self._training = trackers, folder, warn, ""
        self._before = read_events(folder / EVENTS) if trackers else []
        self._last = max((event.samples_seen for event in self._before), default=_NOTHING)
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
        if not self._trackers:
            return []
        self._training = _training_of(now)
        self._sent = read_sent(self._folder, [tracker.kind for tracker in self._trackers], self._training)
        for tracker in self._trackers:
            sent = self._sent[tracker.kind]
            line = _Line(tracker, sent, {})
            self._guarded(line, partial(self._begun, line, run, now), self._last + 1)
        self._write()
        self._evaluations()
        return [f"tracked by {line.tracker.kind}: {line.tracker.place}" for line in self._lines]

    def event(self, event: Event) -> None:
        """Send an event that was written to the log."""
        self._last = max(self._last, event.samples_seen)
        if event.name in TRACKED:
            for line in list(self._lines):
                self._guarded(line, partial(self._send, line, event), event.samples_seen)

    def end(self, code: int | None) -> None:
        """Send the evaluations that came meanwhile, and close; ending twice is harmless."""
        self._evaluations()
        lines, self._lines = self._lines, []
        for line in lines:
            try:
                line.tracker.end(code)
            except Exception as error:
                self._say(line, error)

    def _begun(self, line: _Line, run: TrackedRun, now: Event | None) -> None:
        first = not line.sent.id
        line.sent.id = line.tracker.begin(replace(run, id=line.sent.id))
        self._write()
        line.held = self._held(line, first=first)
        self._lines.append(line)
        for event in effective_events([*self._before, *([] if now is None else [now])]):
            if event.name in TRACKED and event.samples_seen > line.held[event.name]:
                line.sent.missing_from = event.samples_seen
                self._send(line, event)
        line.sent.missing_from = None

    def _held(self, line: _Line, *, first: bool) -> dict[str, int]:
        """The last step of each kind of event that a tracker has."""
        if first:
            return dict.fromkeys(TRACKED, _NOTHING)
        if (told := line.tracker.held()) is not None:
            return dict.fromkeys(TRACKED, told)
        last = dict.fromkeys(TRACKED, _NOTHING)
        for event in self._before:
            if event.name in last:
                last[event.name] = max(last[event.name], event.samples_seen)
        missing = line.sent.missing_from
        return last if missing is None else {name: min(step, missing - 1) for name, step in last.items()}

    def _send(self, line: _Line, event: Event) -> None:
        if event.samples_seen <= line.held[event.name]:
            return
        if event.name == PREVIEW:
            shown = event.fields.get("prompts")
            captions = [str(one) for one in shown] if isinstance(shown, list) else []
            if (file := self._folder / event.text("file")).is_file():
                line.tracker.picture(event.samples_seen, PREVIEW, file, captions)
        elif numbers := scalars_of(event):
            line.tracker.scalars(event.samples_seen, numbers)

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
                line.sent.evaluations.append(key)
                if not self._guarded(line, partial(line.tracker.scalars, step, numbers), self._last + 1):
                    line.sent.evaluations.remove(key)
                    break
        self._write()

    def _guarded(self, line: _Line, action: Callable[[], None], step: int) -> bool:
        """Act; a tracker that fails is left alone from then on, whatever the reason, and misses events from `step` on.

        Returns whether it went well.
        """
        try:
            action()
        except Exception as error:
            self._lines = [other for other in self._lines if other is not line]
            missing = line.sent.missing_from
            line.sent.missing_from = step if missing is None else min(step, missing)
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


def _training_of(now: Event | None) -> str:
    """What a process begins to train, as recipe and data; empty where it goes on, with whatever was begun."""
    traits = now.fields.get("fingerprint") if now is not None and now.name == "start" else None
    return f"{traits.get('recipe')} {traits.get('data')}" if isinstance(traits, Mapping) else ""
