"""The event log of a run (events.jsonl) and the progress line that a person watches.

Every line of events.jsonl is one JSON object {"event": NAME, "time": ISO-8601 UTC, "samples_seen": int, ...}. JSON has
no NaN and no infinity: they are written as the strings "nan", "inf", "-inf", which `Event.number` reads back as floats.

Events of a training run, with their own fields:
    start       argv, cwd, parameters, device, data, fingerprint, total_samples
    resume      argv, cwd, bitwise ("yes", or "no (threads 2->1)")
    transfer    path, checkpoint, samples_seen_there, weights, sha256, numbers (kept, resampled, new, dropped)
    train       loss, grad_norm, learning_rate, samples_per_second, data_wait_share, peak_share (where it is counted)
    preview     file (relative to the run folder), prompts or labels, seconds
    reconstruction  pictures, mean_psnr_db, worst_psnr_db, files (autoencoders only)
    held_out    prediction, pictures, mean, low, high, times, levels, seconds (loss at each noise level)
    evaluated   pictures, frechet_distance, nearer, against, training_pictures, features, seconds (samples on the way)
    checkpoint  name, bytes, seconds, waited_seconds (of a save beside training: while its copy was taken)
    paused      reason, seconds (training stood still for a snapshot of averages, a save beside it, or the report)
    warning     message
    nonfinite   what was infinite or NaN
    compile     message (which blocks are compiled, or why none)
    loss_scale  scale (after an fp16 gradient overflowed)
    end         code, reason, seconds
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TextIO

from open_ldm.core.appending import LineFile
from open_ldm.core.errors import DiskError, escaped
from open_ldm.core.plain_data import parse_json, to_json

if TYPE_CHECKING:
    from rich.live import Live

_OWN_KEYS = ("event", "time", "samples_seen")
_MOST_NUMBER = 1e30
"""No number of a training is larger; a page would plot nothing else beside it."""
_MOST_LINE_BYTES = 4 << 20
MOST_SAMPLES = 10**12 - 1
"""A checkpoint's name has twelve digits."""
_PLAIN_EVERY_SECONDS = 10.0
_LIVE_EVERY_SECONDS = 0.125
_NOTEBOOK_EVERY_SECONDS = 0.5
_RATE_WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """One line of events.jsonl. `time` is ISO-8601 UTC; `fields` holds what this kind of event adds."""

    name: str
    time: str
    samples_seen: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Return a numeric field as float ("nan", "inf" and "-inf" included); None when it is absent or not a number."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
            return None
        if isinstance(value, str) or abs(value) < _MOST_NUMBER:
            return float(value)
        return math.inf if value > 0 else -math.inf

    def text(self, name: str) -> str:
        """Return a field as text; empty when it is absent."""
        value = self.fields.get(name)
        return "" if value is None else str(value)


class EventLog:
    """Append-only writer of events.jsonl, as `LineFile`; what a full disk does not take waits until it does.

    Raises:
        DiskError: The disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path)

    def write(self, event: str, /, *, samples_seen: int, **fields: Any) -> None:
        """Append one event. Fields may hold text, numbers, one-element tensors, paths, lists and mappings of these."""
        if clash := [name for name in fields if name in _OWN_KEYS]:
            raise ValueError(f"every event has its own field {clash[0]!r}; needed: another name")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"event": event, "time": now, "samples_seen": int(samples_seen), **fields}
        line = (to_json(record) + "\n").encode()
        self._file.append(line)

    def flush(self) -> None:
        """Write the events that a full disk made wait. Raises DiskFullError when they still do not fit."""
        self._file.flush()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: Path) -> list[Event]:
    """Read all events in the order written; [] without a file. Lines that a killed process left unfinished are skipped."""
    try:
        with path.open("rb") as file:
            return [event for line in _lines(file) if (event := _parse(line)) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror}", fix="check permissions") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines of a log; of one that is too long, pieces, none of which is an event."""
    while line := file.readline(_MOST_LINE_BYTES):
        yield line


def _parse(line: bytes) -> Event | None:
    try:
        record = parse_json(line)
        own = {name: record.pop(name) for name in _OWN_KEYS}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    name, when, samples = own.values()
    counted = isinstance(samples, int) and not isinstance(samples, bool) and 0 <= samples <= MOST_SAMPLES
    return Event(name, when, samples, record) if isinstance(name, str) and isinstance(when, str) and counted else None


def effective_events(events: Iterable[Event]) -> list[Event]:
    """Return the history that the model in the run folder really has.

    A `resume` at n samples removes every earlier event after n, because that work was lost with the process and done again.
    A second `start` (killed before the first checkpoint) does the same at its own `samples_seen`, 0.
    """
    kept: list[Event] = []
    for event in events:
        if event.name in ("resume", "start"):
            kept = [earlier for earlier in kept if earlier.samples_seen <= event.samples_seen]
        kept.append(event)
    return kept


def samples_seen_in(log: Path) -> int:
    """Return how many samples the model of an event log has learned from so far; 0 without a log."""
    return max((event.samples_seen for event in effective_events(read_events(log))), default=0)


def duration(seconds: float) -> str:
    """Write a number of seconds for people: '8 s', '3 min 20 s', '2 h 05 min', '4 d 3 h'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@dataclass(frozen=True)
class ProgressLine:
    """Content of one progress line. `rate` is in `unit` per second, shares are in [0, 1]; None means not known."""

    label: str
    done: int
    total: int
    unit: str = "samples"
    rate: float | None = None
    loss: float | None = None
    data_wait_share: float | None = None
    peak_share: float | None = None

    def text(self) -> str:
        """Write 'train 12,800/100,000 samples (13 %) · loss 0.2134 · 460 samples/s · data wait 1 % · 3 min 10 s left'."""
        share = min(self.done / self.total, 1.0) if self.total else 1.0
        parts = [f"{self.label} {self.done:,}/{self.total:,} {self.unit} ({share:.0%})".replace("%)", " %)")]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4g}")
        if self.rate:
            parts.append(f"{self.rate:,.0f} {self.unit}/s" if self.rate >= 10 else f"{self.rate:.2g} {self.unit}/s")
        if self.data_wait_share is not None and math.isfinite(self.data_wait_share):
            parts.append(f"data wait {100 * self.data_wait_share:.0f} %")
        if self.peak_share is not None and math.isfinite(self.peak_share):
            parts.append(f"{100 * self.peak_share:.0f} % of peak")
        if self.rate and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        return " · ".join(parts)


class Progress:
    """Progress of a long task: one live line on a terminal or in a notebook, plain lines elsewhere, nothing when `silent`.

    Plain lines appear at the first update, then at most every ten seconds, and once more at the end. `unit` is what is
    counted: samples in training, steps in sampling. `start` is where a resumed task begins. Use it as a context manager.
    """

    def __init__(
        self,
        total: int,
        *,
        label: str = "train",
        unit: str = "samples",
        start: int = 0,
        silent: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.label, self.unit, self.silent = total, label, unit, silent
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        # A cell's output is not a terminal, but a carriage return goes back to the start of its line.
        self._notebook = type(self._stream).__module__.startswith("ipykernel")
        self._written = 0
        self._history = deque([(clock(), start)])
        self._live: Live | None = None
        self._line: ProgressLine | None = None
        self._shown: ProgressLine | None = None
        self._shown_at = -math.inf

    def update(
        self,
        done: int,
        *,
        loss: float | None = None,
        data_wait_share: float | None = None,
        peak_share: float | None = None,
    ) -> None:
        """Report that `done` of the total are done. It is cheap to call often: a new line is shown only when one is due."""
        now = self._clock()
        self._history.append((now, done))
        while len(self._history) > 2 and now - self._history[1][0] >= _RATE_WINDOW_SECONDS:
            self._history.popleft()
        then, before = self._history[0]
        rate = (done - before) / (now - then) if now > then and done > before else None
        self._line = ProgressLine(self.label, done, self.total, self.unit, rate, loss, data_wait_share, peak_share)
        every = _NOTEBOOK_EVERY_SECONDS if self._notebook else _PLAIN_EVERY_SECONDS
        if now - self._shown_at >= (_LIVE_EVERY_SECONDS if self._terminal else every):
            self._show(now)

    def say(self, text: str) -> None:
        """Print one lasting line of text without disturbing the live line."""
        if self.silent:
            return
        text = escaped(text, keep="\n")
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif self._notebook:
            self._write_over(text, end="\n")
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Show the last state, if it was not shown yet, and leave the terminal in order."""
        if self._line is not None and self._line is not self._shown:
            self._show(self._clock())
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._written:
            print(file=self._stream, flush=True)
            self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self, now: float) -> None:
        if self.silent or self._line is None:
            return
        self._shown, self._shown_at = self._line, now
        if self._notebook:
            self._write_over(self._line.text())
            return
        if not self._terminal:
            print(self._line.text(), file=self._stream, flush=True)
            return
        from rich.text import Text  # rich costs start-up time, and `ldm --help` must not pay for it

        if self._live is None:
            self._live = self._start_live()
        self._live.update(Text(self._line.text(), no_wrap=True, overflow="ellipsis"), refresh=True)

    def _write_over(self, text: str, end: str = "") -> None:
        """Overwrite the line that a notebook shows; blanks cover the rest of the old text."""
        print("\r" + text.ljust(self._written), end=end, file=self._stream, flush=True)
        self._written = 0 if end else len(text)

    def _start_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        live = Live(console=Console(file=self._stream), auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        live.start()
        return live
