"""Whatever an event log, or another file of a run, says: the report is written."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from open_ldm.core.events import read_events
from open_ldm.run_folder.history import busy_seconds, read_history
from open_ldm.run_folder.report.page import write_report
from tests.run_folder.fake import make_run

TIMES = ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+23:59", "2026-01-01"]
TEXTS: list[Any] = ["nan", "inf", "1e400", "", "x" * 5000, "\x1b[2J\u202e", "../../etc", "\udc80", *TIMES]
NESTED: list[Any] = [[], {}, [[[]]], {"a": {"b": [1, "x", None]}}, ["a", 1, None]]
ODD: list[Any] = [None, True, -1, 0, 10**15, 10**40, 1e308, *TEXTS, *NESTED]
LINES = [
    b'{"event": "train", "time": "2026-01-01T00:00:00+00:00", "samples_seen": 1e400, "loss": 1}',
    b'{"event": "train", "time": "0001-01-01T00:00:00+23:59", "samples_seen": 7, "loss": 1e400}',
    b'{"event": "train", "time": 3, "samples_seen": true}',
    b'{"event": ["train"], "time": {}, "samples_seen": -5}',
    b'{"event": "train", "time": "", "samples_seen": ' + b"9" * 5000 + b"}",
    b"[" * 3000,
    b'{"event": "end", "time": "9999-12-31T23:59:59-23:59", "samples_seen": 0, "code": [1], "reason": {"a": 1}}',
    b"\xff\xfe\x00",
    b"{" * 100,
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run")


def test_lines_that_no_run_writes_are_passed_over(whole: Path) -> None:
    log = whole / "events.jsonl"
    before, good = log.read_bytes(), read_events(log)
    log.write_bytes(b"\n".join([*LINES, before, *LINES]) + b"\n")
    try:
        assert len(read_events(log)) <= len(good) + 2  # one of LINES, twice, is an event of an odd time
        assert busy_seconds(read_history(whole).events) >= 0
        write_report(whole)
    finally:
        log.write_bytes(before)


@pytest.mark.parametrize("seed", range(8))
def test_a_report_is_written_whatever_the_events_say(seed: int, whole: Path) -> None:
    """Values of events are replaced by odd ones, in every event that a run writes."""
    draw, log = random.Random(seed), whole / "events.jsonl"
    before = log.read_bytes()
    lines = []
    for line in before.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        for name in draw.sample(sorted(content), min(len(content), 2)):
            if name != "event":
                content[name] = draw.choice(ODD)
        lines.append(json.dumps(content).encode())
    log.write_bytes(b"\n".join(lines) + b"\n")
    try:
        assert write_report(whole).is_file()
    finally:
        log.write_bytes(before)


@pytest.mark.parametrize("name", ["data.json", "health.json", "transfer.json", "exit.json", "evaluation.json", "config.yaml"])
def test_a_report_is_written_whatever_the_other_files_say(name: str, whole: Path) -> None:
    file = whole / name
    before = file.read_bytes() if file.is_file() else None
    draw = random.Random(name)
    try:
        for _ in range(3):
            keys = ["survey", "sentence", "bad", "results", "code", "reason", "source", "tensors", "conditioning", "pictures"]
            file.write_text(json.dumps({key: draw.choice(ODD) for key in keys}))
            assert write_report(whole).is_file()
        for content in ("[" * 3000, "&a [*a]", '{"code": 1e400}', "!!int x", "null", '"x"', "9" * 5000):
            file.write_text(content)
            assert write_report(whole).is_file()
    finally:
        file.unlink() if before is None else file.write_bytes(before)
