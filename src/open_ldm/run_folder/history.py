"""What a run folder tells: read once, with every missing or damaged piece simply absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from open_ldm.checkpoints.names import is_checkpoint, samples_seen_of
from open_ldm.core.config import parse_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Event, effective_events, read_events
from open_ldm.core.files import read_json_object

HELD_OUT = "held_out"
"""Name of the event of a held-out loss."""

Tone = Literal["good", "waiting", "busy", "bad"]
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Preview:
    """One preview grid: a PNG file, and how many samples the model had seen (None when no event tells)."""

    path: Path
    samples_seen: int | None
    shown: tuple[str, ...]
    """Prompts or class names of the pictures in it."""


@dataclass(frozen=True)
class RunState:
    """Where the run stands, in one word and one sentence."""

    word: str
    tone: Tone
    reason: str = ""


@dataclass(frozen=True)
class RunHistory:
    """A run folder's content. `events` is everything written; `effective` leaves out what a resume superseded."""

    folder: Path
    config_text: str
    config: Mapping[str, Any]
    events: Sequence[Event]
    effective: Sequence[Event]
    data: Mapping[str, Any]
    health: Mapping[str, Any]
    transfer: Mapping[str, Any]
    previews: Sequence[Preview]
    state: RunState

    def last(self, name: str) -> Event | None:
        """The newest event of that name that still counts."""
        return next((event for event in reversed(self.effective) if event.name == name), None)

    def named(self, *names: str) -> list[Event]:
        """The events of these names that still count, in order."""
        return [event for event in self.effective if event.name in names]

    @property
    def controls(self) -> Sequence[Any]:
        """The control conditions of the recipe, as plain mappings."""
        listed = lookup(self.config, "conditioning.controls")
        return listed if isinstance(listed, list) else ()

    @property
    def samples_seen(self) -> int:
        """Samples the model has learned from; of weights without a history, those that the newest checkpoint names."""
        if self.events:
            return max((event.samples_seen for event in self.effective), default=0)
        return max(_checkpointed(self.folder), default=0)


def read_history(run: Path) -> RunHistory:
    """Read a run folder. A missing or unreadable file leaves its part empty; nothing here raises for bad content."""
    events = read_events(run / "events.jsonl")
    effective = effective_events(events)
    data = read_json_object(run / "data.json")
    health = data.get("health")
    config_text = _text(run / "config.yaml")
    return RunHistory(
        folder=run,
        config_text=config_text,
        config=_yaml(config_text),
        events=events,
        effective=effective,
        data=data,
        health=health if isinstance(health, dict) else read_json_object(run / "health.json"),
        transfer=read_json_object(run / "transfer.json"),
        previews=_previews(run, effective),
        state=_state(events, run),
    )


def lookup(content: Any, dotted: str) -> Any:
    """`content["a"]["b"]` for "a.b", or None where the path ends early."""
    for name in dotted.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def busy_seconds(events: Sequence[Event]) -> float:
    """Time the run's processes were at work: from each start or resume to the last event before the next one."""
    begins = [place for place, event in enumerate(events) if event.name in ("start", "resume")]
    total = 0.0
    for begin, following in pairwise([*begins, len(events)]):
        first, last = _when(events[begin].time), _when(events[following - 1].time)
        if first is not None and last is not None:
            total += max(0.0, (last - first).total_seconds())
    return total


def _checkpointed(run: Path) -> list[int]:
    """Samples seen by each checkpoint of a run folder, by their names."""
    return [samples_seen_of(path.name) for path in (run / "checkpoints").glob("*") if is_checkpoint(path)]


def _state(events: Sequence[Event], run: Path) -> RunState:
    exit_file = run / "exit.json"
    ended = events[-1] if events and events[-1].name == "end" else None
    if ended is not None:
        return _ended(ended.fields.get("code"), ended.text("reason"))
    verdict = read_json_object(exit_file)
    newest = _when(events[-1].time) if events else None
    # An exit.json older than the log was left by an earlier process: the run has gone on since.
    if verdict and (newest is None or exit_file.stat().st_mtime >= newest.timestamp()):
        return _ended(verdict.get("code"), str(verdict.get("reason") or ""))
    if events:
        return RunState("running", "busy")
    if _checkpointed(run):
        return RunState("weights alone", "waiting", "nothing is here of the training that made them")
    return RunState("not started", "waiting")


def _ended(code: Any, reason: str) -> RunState:
    if code == 0:
        return RunState("finished", "good", reason)
    if code == 75:
        return RunState("preempted", "waiting", reason)
    return RunState(f"stopped, exit code {code}", "bad", reason)


def _when(time: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(time)
        moment = moment if moment.tzinfo else moment.astimezone()
        moment.timestamp()
    except (ValueError, OverflowError, OSError):  # a year that no clock has
        return None
    return moment


def _previews(run: Path, effective: Sequence[Event]) -> list[Preview]:
    told = {event.text("file"): event for event in effective if event.name == "preview"}
    found: list[Preview] = []
    for path in sorted((run / "samples").glob("*.png")):
        event = told.get(path.relative_to(run).as_posix())
        if told and event is None:
            continue  # left by a process whose work a resume superseded
        if _is_png(path):
            shown = (event.fields.get("prompts") or event.fields.get("labels") or ()) if event else ()
            names = tuple(str(name) for name in shown) if isinstance(shown, list) else ()
            found.append(Preview(path, event.samples_seen if event else None, names))
    return sorted(found, key=lambda preview: preview.samples_seen or 0)


def _is_png(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _yaml(text: str) -> Mapping[str, Any]:
    try:
        return parse_yaml(text, "config.yaml")
    except ConfigError:
        return {}
