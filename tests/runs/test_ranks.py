"""Several processes that train: they refuse to differ, and a killed one ends the run in one line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.events import read_events
from open_ldm.runs.load import load_run
from open_ldm.runs.preview import sample_previews
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest
from tests.core.test_world import HOST
from tests.processes import PATIENCE_SECONDS, finish, start_processes
from tests.runs.tiny import last_seen, losses, tiny_recipe
from tests.started import Program, start


def write_pictures(folder: Path, seed: int) -> None:
    folder.mkdir()
    numbers = np.random.default_rng(seed)
    for index in range(6):
        Image.fromarray(numbers.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def test_processes_that_differ_train_nothing(tmp_path: Path) -> None:
    tiny_recipe(tmp_path)
    for rank in range(2):
        write_pictures(tmp_path / f"pictures-{rank}", rank)
    finish(start_processes("tests.runs.ranks", [str(tmp_path)], 2))
    found, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    folders = [each.pop("folder") for each in (found, other)]
    assert found == other
    for line, code in folders:
        assert code == 2 and line.startswith(f"rank 1 on {HOST} does not see what rank 0 on {HOST} writes to")
    assert found["recipe"][0].startswith(
        f"the processes differ in recipe: training.optimizer.learning_rate=0.002 on rank 1 ({HOST}),"
        f" training.optimizer.learning_rate=0.001 on rank 0 ({HOST})"
    )
    assert found["data"][0].startswith("the processes differ in data: ") and "copy the same data" in found["data"][0]
    assert found["missing"][0].startswith(f"rank 1 on {HOST}: ") and "nowhere" in found["missing"][0]
    assert [found[name][1] for name in ("recipe", "data", "missing")] == [2, 65, found["missing"][1]]
    assert not list(tmp_path.glob("run*/checkpoints")) and last_seen(tmp_path / "run") == -1
    ended = json.loads((tmp_path / "run" / "exit.json").read_text())
    assert ended["reason"] in found["missing"][0] and ended["code"] == found["missing"][1]


def test_one_process_samples_and_goes_on_with_a_run_in_shards(tmp_path: Path) -> None:
    given, run = tiny_recipe(tmp_path), tmp_path / "run"
    changes = ["training.samples=16", "training.checkpoint_every_samples=8", "training.preview_every_samples=16"]
    changes += ["data.holdout={share: 0.2}", "held_out={every_samples: 16, pictures: 8}"]
    told = finish(start_processes("open_ldm", ["train", str(given), *changes, "parallel.kind=fsdp", "--out", str(run)], 2))
    assert "2 processes, each with 1/2 of the model (fsdp): parallel.kind=fsdp" in told and "Warning" not in told
    events = read_events(run / "events.jsonl")
    found = {event.name: event for event in events}
    saves = [event for event in events if event.name == "checkpoint"]
    assert [(event.samples_seen, "waited_seconds" in event.fields) for event in saves] == [(8, True), (16, False)]
    assert found["start"].fields["fingerprint"]["gradients"] == "fsdp"
    preview, loss = run / str(found["preview"].fields["file"]), found["held_out"].fields["mean"]
    picture = np.asarray(Image.open(preview)).astype(int)
    before, newest = losses(run), run / "checkpoints" / "samples-000000000016"
    loaded = load_run(run)
    request = SampleRequest(1, "a red circle")
    shown = sample_previews(loaded.recipe, loaded.known.facts, loaded.generator, [request], loaded.text_encoder)
    assert [tuple(one.shape) for one in shown] == [(3, 16, 16)]
    shutil.rmtree(newest)
    train(load_recipe(str(given), changes), run, silent=True)
    assert (newest / "ema.safetensors").is_file()
    now = read_events(run / "events.jsonl")
    resumed = next(event for event in now if event.name == "resume")
    assert resumed.fields["bitwise"] == "no (gradients fsdp→?, micro_batch_size 2→4, processes 2→1)"
    again = losses(run)
    assert [seen for seen, _ in again] == [seen for seen, _ in before]
    assert [each for _, each in again] == pytest.approx([each for _, each in before], rel=1e-5)
    last = [event for event in now if event.name == "held_out"][-1]
    assert last.fields["mean"] == pytest.approx(loss, rel=1e-5)
    assert np.abs(np.asarray(Image.open(preview)).astype(int) - picture).max() <= 1


def begun(arguments: list[str], run: Path) -> Program:
    """Start a training, and wait until it has trained from here on."""
    seen = max(0, last_seen(run))
    launcher = start(arguments)
    until = time.monotonic() + PATIENCE_SECONDS
    while last_seen(run) < seen + 8:
        assert time.monotonic() < until and launcher.poll() is None
        time.sleep(0.05)
    return launcher


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_command_that_goes_on_is_what_was_typed(tmp_path: Path) -> None:
    recipe, run = tiny_recipe(tmp_path), tmp_path / "run"
    changes = ["training.samples=40000", "training.checkpoint_every_samples=40000"]
    words = ["train", str(recipe), *changes, "--processes", "2", "--out", str(run)]
    for _ in range(2):
        launcher = begun(words, run)
        launcher.send_signal(signal.SIGTERM)
        errors = launcher.communicate(timeout=PATIENCE_SECONDS)[1].decode()
        told = next(line for line in errors.splitlines() if "go on with: " in line)
        assert launcher.returncode == 75 and shlex.split(told.partition("go on with: ")[2]) == ["ldm", *words]
    found = {event.name: event for event in read_events(run / "events.jsonl")}
    assert found["start"].fields["argv"] == found["resume"].fields["argv"] == ["ldm", *words]
    assert found["resume"].fields["bitwise"] == "yes"
    assert shlex.join(words) in (run / "report.html").read_text() and load_recipe(str(run)).training.device == "cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="what a process does is read from /proc")
def test_whoever_is_left_says_who_was_killed(tmp_path: Path) -> None:
    recipe, run = tiny_recipe(tmp_path), tmp_path / "run"
    changes = ["training.samples=40000", "training.checkpoint_every_samples=40000"]
    launcher = begun(["train", str(recipe), *changes, "--out", str(run), "--processes", "2"], run)
    leader = int((run / ".lock").read_text().split()[1])
    os.kill(leader, signal.SIGKILL)
    errors = launcher.communicate(timeout=PATIENCE_SECONDS)[1].decode()
    line = f"rank 0 on {HOST} ended without a word: it was killed, perhaps for want of memory"
    assert launcher.returncode == 69 and f"error: {line}" in errors, errors
    for noise in ("Traceback", "RuntimeError", "GLHF", "Connection"):
        assert noise not in errors
    ended = json.loads((run / "exit.json").read_text())
    assert (ended["code"], ended["reason"]) == (69, line) and "same command" in ended["hint"]
