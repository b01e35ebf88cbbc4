"""A killed run goes on bit-equal: losses and the hashes of weights, average and optimiser.

LDM_KILLS sets the number of kills per denoiser (default 2, for a quick suite; 20 was run for the record).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.runs.tiny import DENOISERS, TINY, last_seen, losses, tiny_recipe
from tests.started import Program, start

KILLS = int(os.environ.get("LDM_KILLS", "2"))
PATIENCE_SECONDS = 300


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 by file of the newest checkpoint."""
    newest = max((run / "checkpoints").iterdir())
    manifest = json.loads((newest / "MANIFEST.json").read_text())
    assert manifest["samples_seen"] == TINY["training"]["samples"]
    return {name: described["sha256"] for name, described in manifest["files"].items()}


def finish(arguments: list[str], *, fresh: bool = False) -> None:
    process = start(arguments, fresh=fresh)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors.decode()


def kill_at(process: Program, run: Path, samples: int) -> bool:
    """SIGKILL when the run has been seen to reach `samples`; False when it ended first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if last_seen(run) >= samples:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.01)
    raise AssertionError("the run did not get on")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_killed_runs_end_bit_equal_to_an_uninterrupted_one(denoiser: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    arguments = ["train", str(recipe), *DENOISERS[denoiser]]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*arguments, "--out", str(whole)])

    draw = random.Random(denoiser)
    killed = 0
    # A kill soon after a save gains no checkpoint, so the marks only rise while there is room for all kills.
    for mark in sorted(draw.choice(range(4, TINY["training"]["samples"], 4)) for _ in range(KILLS)):
        process = start([*arguments, f"data.workers={killed % 3 if killed % 3 != 2 else 3}", "--out", str(broken)])
        killed += kill_at(process, broken, mark)
        process.communicate()
    # One of the five ends as people start it, with a hash seed of its own: all forks have that of their server.
    finish([*arguments, "--out", str(broken)], fresh=denoiser == "mmdit")

    assert killed == KILLS
    assert losses(broken) == losses(whole)
    assert len(losses(whole)) == TINY["training"]["samples"] // TINY["training"]["batch_size"]
    assert hashes(broken) == hashes(whole)


def wait_for(run: Path, samples: int) -> None:
    """Until the run has been seen to reach `samples`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while last_seen(run) < samples:
        assert time.monotonic() < deadline, "the run did not get on"
        time.sleep(0.01)


@pytest.mark.timeout(1500)
def test_stop_signal_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    arguments = ["train", str(recipe), "training.samples=4000", "training.checkpoint_every_samples=100000"]
    run = tmp_path / "run"
    process = start([*arguments, "--out", str(run)])
    wait_for(run, 12)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 75
    ended = json.loads((run / "exit.json").read_text())
    assert ended["code"] == 75 and "SIGTERM" in ended["reason"] and "same command" in ended["hint"]
    stopped_at = losses(run)[-1][0]
    assert (run / "checkpoints" / f"samples-{stopped_at:012d}" / "MANIFEST.json").is_file()

    process = start([*arguments, "--out", str(run)])
    wait_for(run, stopped_at + 8)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 75
    assert [samples for samples, _ in losses(run)][: stopped_at // 4 + 2] == list(range(4, stopped_at + 9, 4))
