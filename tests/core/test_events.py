from __future__ import annotations

import errno
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from open_ldm.core.errors import DiskError
from open_ldm.core.events import Event, EventLog, Progress, ProgressLine, duration, effective_events, read_events


def at(name: str, samples_seen: int) -> Event:
    return Event(name, "2026-01-01T00:00:00+00:00", samples_seen)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep/run/events.jsonl"
    with EventLog(path) as log:
        log.write("start", samples_seen=0, argv=["ldm", "train"], folder=tmp_path, device="cpu", data="ein Bär 🐻")
        log.write("train", samples_seen=32, loss=torch.tensor(0.25), learning_rate=1e-4, labels=(1, 2))
    start, train = read_events(path)
    assert (start.name, start.samples_seen, start.fields["argv"]) == ("start", 0, ["ldm", "train"])
    assert start.text("data") == "ein Bär 🐻"
    assert start.text("folder") == str(tmp_path)
    assert (train.number("loss"), train.number("learning_rate"), train.fields["labels"]) == (0.25, 1e-4, [1, 2])
    assert train.time.endswith("+00:00")


def test_what_is_not_finite_stays_valid_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("train", samples_seen=1, loss=math.nan, more={"norms": [math.inf, torch.tensor(-math.inf)]})
    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record["more"] == {"norms": ["inf", "-inf"]}
    (event,) = read_events(path)
    loss = event.number("loss")
    assert loss is not None
    assert math.isnan(loss)


def test_number_takes_numbers_only() -> None:
    event = Event("train", "", 0, {"a": "12", "b": True, "c": None, "d": [1], "e": 3, "f": "-inf"})
    assert [event.number(name) for name in "abcdefg"] == [None, None, None, None, 3.0, -math.inf, None]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_half_written_line_loses_itself_only(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("train", samples_seen=1)
        log.write("train", samples_seen=2, text="Bär")
    path.write_bytes(path.read_bytes()[:-cut])
    whole = 2 if cut == 1 else 1  # without its line break alone, a line is still whole
    assert [event.samples_seen for event in read_events(path)] == [1, 2][:whole]
    with EventLog(path) as log:
        log.write("resume", samples_seen=1)
    assert [event.name for event in read_events(path)] == [*["train"] * whole, "resume"]


def test_each_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    original = os.write
    monkeypatch.setattr(os, "write", lambda file, line: (written.append(bytes(line)), original(file, line))[1])
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write("train", samples_seen=1, text="x" * 100_000)
    assert len(written) == 1
    assert written[0].endswith(b"}\n")


def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write"):
        EventLog(tmp_path / "file" / "events.jsonl")
    log = EventLog(tmp_path / "events.jsonl")

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(DiskError, match="Input/output error"):
        log.write("train", samples_seen=1)


def test_names_of_the_event_itself_are_refused(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log, pytest.raises(ValueError, match="its own field 'time'"):
        log.write("train", samples_seen=1, time=3)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_content_breaks_reading(lines: list[bytes]) -> None:
    good = b'{"event": "train", "time": "", "samples_seen": 7}'
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"events-{os.getpid()}.jsonl"
    path.write_bytes(b"\n".join([*lines, good, *lines]))
    try:
        assert 7 in [event.samples_seen for event in read_events(path)]
    finally:
        path.unlink()


def test_no_file_means_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "events.jsonl") == []


def test_a_resume_forgets_what_came_after_it() -> None:
    events = [at("start", 0), *(at("train", n) for n in (1, 2, 3, 4)), at("resume", 2), at("train", 3)]
    assert [(event.name, event.samples_seen) for event in effective_events(events)] == [
        ("start", 0),
        ("train", 1),
        ("train", 2),
        ("resume", 2),
        ("train", 3),
    ]


def test_a_resume_from_an_older_checkpoint_forgets_the_newer_resume() -> None:
    events = [at("start", 0), at("train", 4), at("resume", 4), at("train", 6), at("resume", 2), at("train", 3)]
    assert [(event.name, event.samples_seen) for event in effective_events(events)] == [
        ("start", 0),
        ("resume", 2),
        ("train", 3),
    ]


def test_a_second_start_begins_anew() -> None:
    events = [at("start", 0), at("train", 1), at("start", 0), at("train", 1)]
    assert [event.name for event in effective_events(events)] == ["start", "start", "train"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (4e5, "4 d 15 h")],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_progress_line_says_what_is_known() -> None:
    line = ProgressLine("train", 12_800, 100_000, rate=460.0, loss=0.21342, data_wait_share=0.012)
    assert line.text() == (
        "train 12,800/100,000 samples (13 %) · loss 0.2134 · 460 samples/s · data wait 1 % · 3 min 10 s left"
    )
    assert ProgressLine("sample", 50, 50, "steps", rate=2.5).text() == "sample 50/50 steps (100 %) · 2.5 steps/s"
    assert ProgressLine("train", 1, 2, loss=math.nan).text() == "train 1/2 samples (50 %) · loss nan"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_is_first_then_every_ten_seconds_then_last() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, stream=stream, clock=clock) as progress:
        for second in range(1, 26):
            clock.now = float(second)
            progress.update(second * 40)
        progress.say("a word")
    lines = stream.getvalue().splitlines()
    assert [line.split(" samples")[0] for line in lines] == [
        "train 40/1,000",
        "train 440/1,000",
        "train 840/1,000",
        "a word",
        "train 1,000/1,000",
    ]
    assert "40 samples/s" in lines[1]
    assert "14 s left" in lines[1]


def test_the_rate_of_a_resumed_task_counts_its_own_work_and_forgets_old_times() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(10_000, start=5000, stream=stream, clock=clock) as progress:
        for second in range(1, 100):
            clock.now = float(second)
            progress.update(5000 + (second if second < 50 else 50 + 20 * (second - 50)))
    lines = stream.getvalue().splitlines()
    assert "1 samples/s" in lines[0]
    assert "20 samples/s" in lines[-1]


def test_the_last_line_is_not_said_twice() -> None:
    stream = io.StringIO()
    with Progress(1, stream=stream) as progress:
        progress.update(1)
    assert len(stream.getvalue().splitlines()) == 1


def test_silent_progress_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(2, silent=True, stream=stream) as progress:
        progress.update(1)
        progress.say("a word")
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    clock, stream = Clock(), Terminal()
    with Progress(100, stream=stream, clock=clock) as progress:
        for step in range(1, 4):
            clock.now = float(step)
            progress.update(step, loss=0.123456)
        progress.say("[a] word")
    shown = stream.getvalue()
    assert "\x1b[2K" in shown, "the line is erased before it is written again"
    assert "train 3/100 samples" in shown
    assert "[a] word" in shown
    assert shown.count("\n") <= 3


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress(1, stream=stream) as progress:
        progress.update(1)
    assert "\x1b" not in stream.getvalue()


def test_importing_it_costs_neither_rich_nor_torch() -> None:
    probe = "import sys, open_ldm.core.events as e; print(sorted({'rich', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class NotebookOutput(io.StringIO):
    """What a notebook gives as stderr, told by where its class comes from."""

    __module__ = "ipykernel.iostream"

    def shown(self) -> list[str]:
        """The lines that a reader sees: a carriage return goes back to the start of its line, and nothing is erased."""
        lines = []
        for line in self.getvalue().split("\n"):
            seen = ""
            for part in line.split("\r"):
                seen = part + seen[len(part) :]
            lines.append(seen.rstrip())
        return lines


def test_a_notebook_shows_one_live_line() -> None:
    now = [0.0]
    stream = NotebookOutput()
    with Progress(1000, stream=stream, clock=lambda: now[0]) as progress:
        progress.say("begin")
        for done in (200, 400, 600):
            now[0] += 1.0
            progress.update(done)
        now[0] += 0.1
        progress.update(610)  # too soon to be shown
        progress.say("warning: x")
        assert stream.shown()[-1] == ""
        now[0] += 1.0
        progress.update(1000)
    assert [line.split(" (")[0] for line in stream.shown()] == ["begin", "warning: x", "train 1,000/1,000 samples", ""]
    assert stream.getvalue().count("samples") >= 4 and "610" not in stream.getvalue()
