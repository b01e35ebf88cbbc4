"""The part of a run's report that tells its starts, resumes, warnings, non-finite steps and ends."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from open_ldm.core.events import Event, duration
from open_ldm.pages.content import Link, Part, Table
from open_ldm.run_folder.history import RunHistory
from open_ldm.run_folder.report.head import command_of

_MOST_ENTRIES = 40
_SHOWN = ("start", "resume", "length", "warning", "nonfinite", "end")


@dataclass(frozen=True)
class Timeline:
    """The newest entries. `left_out`: how many earlier ones only `log` has; `checkpoint`: the newest one in words, if any."""

    entries: Table
    left_out: int
    log: Link
    checkpoint: str


def timeline_part(history: RunHistory) -> Part | None:
    """What happened in order, superseded events too, for they did happen. None for a run without events."""
    shown = [event for event in history.events if event.name in _SHOWN]
    newest = history.last("checkpoint")
    if not shown and newest is None:
        return None
    rows = [[event.time[:19].replace("T", " "), f"{event.samples_seen:,}", _words(event)] for event in shown[-_MOST_ENTRIES:]]
    content = Timeline(
        entries=Table(rows, ["time (UTC)", "samples seen", "event"]),
        left_out=len(shown) - len(rows),
        log=Link("events.jsonl", "events.jsonl"),
        checkpoint="" if newest is None else _checkpoint(newest),
    )
    return Part("What happened", "run/timeline.html", content)


def _words(event: Event) -> str:
    match event.name:
        case "resume":
            return f"resumed, bitwise: {event.text('bitwise') or 'unknown'}"
        case "length":
            return event.text("message")
        case "warning":
            return f"warning: {event.text('message')}"
        case "nonfinite":
            details = ", ".join(f"{name} {value}" for name, value in event.fields.items())
            return f"loss or gradients not finite{f' ({details})' if details else ''}"
        case "end":
            seconds = event.number("seconds")
            took = f", {duration(seconds)}" if seconds is not None and math.isfinite(seconds) else ""
            reason = event.text("reason")
            return f"ended with code {event.text('code')}{f': {reason}' if reason else ''}{took}"
        case _:
            return "started" + (f": {shlex.join(argv)}" if (argv := command_of(event)) else "")


def _checkpoint(event: Event) -> str:
    size, seconds = event.number("bytes"), event.number("seconds")
    parts = [event.text("name")]
    if size is not None:
        parts.append(f"{size / 1e6:,.1f} MB")
    if seconds is not None:
        parts.append(f"saved in {seconds:.2g} s")
    return ", ".join(parts)
