"""Several processes that train: they refuse to differ, and a killed one ends the run in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.core.test_world import HOST, free_port
from tests.runs.tiny import last_seen, tiny_recipe

PATIENCE_SECONDS = 280


def write_pictures(folder: Path, seed: int) -> None:
    folder.mkdir()
    numbers = np.random.default_rng(seed)
    for index in range(6):
        Image.fromarray(numbers.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def test_processes_that_differ_train_nothing(tmp_path: Path) -> None:
    tiny_recipe(tmp_path)
    for rank in range(2):
        write_pictures(tmp_path / f"pictures-{rank}", rank)
    given = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.runs.ranks", str(tmp_path)],
            env={**os.environ, **given, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, errors
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


@pytest.mark.skipif(sys.platform != "linux", reason="what a process does is read from /proc")
def test_whoever_is_left_says_who_was_killed(tmp_path: Path) -> None:
    recipe, run = tiny_recipe(tmp_path), tmp_path / "run"
    changes = ["training.samples=40000", "training.checkpoint_every_samples=40000"]
    command = [sys.executable, "-m", "open_ldm", "train", str(recipe), *changes, "--out", str(run), "--processes", "2"]
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while last_seen(run) < 8:
        assert time.monotonic() < until and launcher.poll() is None
        time.sleep(0.05)
    leader = int((run / ".lock").read_text().split()[1])
    os.kill(leader, signal.SIGKILL)
    _, errors = launcher.communicate(timeout=PATIENCE_SECONDS)
    line = f"rank 0 on {HOST} ended without a word: it was killed, perhaps for want of memory"
    assert launcher.returncode == 69 and f"error: {line}" in errors, errors
    for noise in ("Traceback", "RuntimeError", "GLHF", "Connection"):
        assert noise not in errors
    ended = json.loads((run / "exit.json").read_text())
    assert (ended["code"], ended["reason"]) == (69, line) and "same command" in ended["hint"]
