"""A run that saves beside training ends as one that waits for its saves does, and so does a killed one."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from open_ldm.checkpoints.background import BackgroundSaves
from open_ldm.core.errors import DiskFullError
from open_ldm.core.events import read_events
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.saving import Saving
from open_ldm.runs.train import train
from open_ldm.training.trainer import Trainer
from tests.processes import finish
from tests.runs.test_full_disk import Disk
from tests.runs.tiny import losses, tiny_recipe
from tests.started import Started

SHORT = ["training.samples=32", "training.checkpoint_every_samples=8", "preview.count=1"]


def saved(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "checkpoints").rglob("*.safetensors")}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A run in one go that waits for its saves; a whole model on the CPU does."""
    train(load_recipe(str(tiny_recipe(tmp_path)), SHORT), tmp_path / "whole", silent=True)
    events = [event for event in read_events(tmp_path / "whole" / "events.jsonl") if event.name == "checkpoint"]
    assert [event.samples_seen for event in events] == [8, 16, 24, 32]
    assert not any("waited_seconds" in event.fields for event in events)
    return tmp_path / "whole"


def test_saves_beside_training_change_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run, full = load_recipe(str(tiny_recipe(tmp_path)), SHORT), tmp_path / "run", tmp_path / "full"
    monkeypatch.setattr(Saving, "beside", True)
    train(recipe, run, silent=True)
    assert losses(run) == losses(whole) and saved(run) == saved(whole)
    events = [event for event in read_events(run / "events.jsonl") if event.name == "checkpoint"]
    assert [event.samples_seen for event in events] == [8, 16, 24, 32]  # each as of the state that it saved
    assert ["waited_seconds" in event.fields for event in events] == [True, True, True, False]  # the last one is waited for
    with monkeypatch.context() as patched:  # a disk that is full for a while: training goes on and tries again
        Disk(lambda seen: not 8 <= seen < 20, patched)
        assert train(recipe, full, silent=True).code == 0
    told = [event for event in read_events(full / "events.jsonl") if event.name in ("checkpoint", "warning")]
    assert told[0].text("message").startswith("nothing was saved, since the disk is full (") and told[-1].samples_seen == 32
    assert losses(full) == losses(whole)
    with monkeypatch.context() as patched:
        Disk(lambda seen: seen < 28, patched)
        with pytest.raises(DiskFullError):
            train(recipe, tmp_path / "end", silent=True)


def test_what_training_waits_for_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is a second later whenever it is looked at."""
    ended, ticks = BackgroundSaves.ended, count()
    monkeypatch.setattr(Saving, "beside", True)
    monkeypatch.setattr(BackgroundSaves, "ended", lambda self, wait=False: ended(self, wait=True) if wait else None)
    monkeypatch.setattr("open_ldm.runs.saving.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr("open_ldm.runs.recorder._REPORT_EVERY_SECONDS", 0.0)
    averages = "training.ema={kind: power, lengths: [0.05, 0.1], snapshot_every_samples: 12}"
    train(load_recipe(str(tiny_recipe(tmp_path)), [*SHORT, averages]), tmp_path / "run", silent=True)
    paused = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event.name == "paused"]
    assert all(event.number("seconds") == 1.0 for event in paused)
    told = [(event.samples_seen, event.text("reason")) for event in paused]
    wait, snapshot, report = "the end of a save beside training", "a snapshot of the averages", "a new report.html"
    assert [at for at, reason in told if reason == wait] == [16, 24, 32]  # no save was under way before the first
    assert [at for at, reason in told if reason == snapshot] == [12, 24]
    assert [at for at, reason in told if reason == report] == [8, 16, 24, 32] and len(told) == 9


def test_nothing_that_a_run_does_after_each_update_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA: the outcome of an update is known when the next one has begun, or where something is due after it."""
    begin, known = Trainer.begin, []
    monkeypatch.setattr(Trainer, "lags", True)
    monkeypatch.setattr(Trainer, "begin", lambda self, batches: known.append(begin(self, batches)) or known[-1])
    seldom = ["training.log_every_samples=16", "training.checkpoint_every_samples=16", "training.preview_every_samples=0"]
    train(load_recipe(str(tiny_recipe(tmp_path)), [*SHORT, *seldom]), tmp_path / "run", silent=True)
    assert [update is None for update in known] == [True, *[False] * 3] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork")
def test_a_run_killed_in_a_save_beside_it_goes_on_bit_equal(whole: Path, tmp_path: Path) -> None:
    run, places = tmp_path / "run", ["save beside", "saved beside", "save beside"]
    finish([Started("tests.runs.killed_at", [str(tmp_path / "tiny.yaml"), str(run), *places, "--", *SHORT])])
    assert losses(run) == losses(whole) and saved(run) == saved(whole)
    assert sum(event.name in ("start", "resume") for event in read_events(run / "events.jsonl")) == 4
