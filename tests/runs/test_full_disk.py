"""A disk without room: training goes on, says so, tries again, and fails only when nothing can be saved at the end."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.errors import DiskError, DiskFullError, exit_code_of
from open_ldm.core.events import EventLog, read_events
from open_ldm.core.files import require_space
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.recorder import RunRecorder
from open_ldm.runs.train import train
from tests.runs.tiny import losses, tiny_recipe

SHORT = ("training.samples=32", "training.checkpoint_every_samples=8", "training.preview_every_samples=8", "preview.count=1")


class Disk:
    """A disk that has room while `has_room(samples seen so far)` says so; the event log is on it."""

    def __init__(self, has_room: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_room = has_room
        self.refused = self.seen = 0
        self.log = -1
        real_write, real_usage, real_event = os.write, shutil.disk_usage, RunRecorder.event

        def usage(path: Any) -> Any:
            if self.has_room(self.seen):
                return real_usage(path)
            self.refused += 1
            return type(real_usage(path))(1, 1, 0)

        def write(handle: int, content: bytes) -> int:
            if handle == self.log and not self.has_room(self.seen):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real_write(handle, content)

        def event(recorder: Any, name: str, /, **fields: Any) -> None:
            self.seen, self.log = recorder.samples_seen, recorder._events._file._file
            real_event(recorder, name, **fields)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(RunRecorder, "event", event)


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    return load_recipe(str(tiny_recipe(tmp_path)), SHORT)


def test_training_goes_on_and_saves_once_there_is_room(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(recipe, whole, silent=True)
    with monkeypatch.context() as patched:
        disk = Disk(lambda seen: not 8 <= seen < 24, patched)
        assert train(recipe, run, silent=True).code == 0
    assert disk.refused >= 2
    assert losses(run) == losses(whole) and len(losses(run)) == 8  # not a line of the log is lost
    events = read_events(run / "events.jsonl")
    said = [event for event in events if event.name == "warning"]
    assert [event.samples_seen for event in said] == [8, 16]
    assert all(event.text("message").startswith("nothing was saved, since the disk is full (") for event in said)
    assert [event.samples_seen for event in events if event.name == "checkpoint"] == [24, 32]
    assert load_model(run).samples_seen == 32


def test_what_cannot_be_saved_at_the_end_is_74(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        Disk(lambda seen: seen < 16, patched)
        with pytest.raises(DiskFullError, match=r"could not be written|MB free") as caught:
            train(recipe, run, silent=True)
    assert exit_code_of(caught.value) == 74
    assert CheckpointFolder(run / "checkpoints").names() == ["samples-000000000008"]
    assert train(recipe, run, silent=True).code == 0  # the same command, once there is room
    assert load_model(run).samples_seen == 32


def test_another_refusal_of_the_disk_still_ends_the_run(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("open_ldm.checkpoints.checkpoint.fsync_path", refuse)
    with pytest.raises(DiskError, match="Input/output error") as caught:
        train(recipe, tmp_path / "run", silent=True)
    assert caught.value.exit_code == 74 and not isinstance(caught.value, DiskFullError)


def test_half_a_line_is_completed_and_too_much_waiting_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [10, 0, 0, 10**6]
    with monkeypatch.context() as patched, EventLog(tmp_path / "events.jsonl") as log:

        def write(handle: int, content: bytes) -> int:
            if not (left := room.pop(0)):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(handle, content[:left])

        patched.setattr(os, "write", write)
        for number in range(4):
            log.write("note", samples_seen=number)
        patched.setattr("open_ldm.core.appending._MOST_WAITING_BYTES", 100)
        room.extend([0] * 10)
        with pytest.raises(DiskFullError):
            for number in range(4, 8):
                log.write("note", samples_seen=number)
    assert [event.samples_seen for event in read_events(tmp_path / "events.jsonl")] == [0, 1, 2, 3]
    with pytest.raises(DiskFullError, match=r"MB free; needed: .* MB; fix: free some space"):
        require_space(tmp_path / "not" / "there", 10**18)
