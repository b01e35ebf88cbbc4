"""A killed run goes on bit-equal, and so does the autoencoder it leaves."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from open_ldm.runs.autoencoder.checks import read_checks
from tests.runs.autoencoder.tiny import TINY, tiny_recipe
from tests.runs.test_resume import finish, kill_at
from tests.runs.tiny import losses
from tests.started import preload, start

preload("diffusers.models.autoencoders.autoencoder_kl")  # five seconds of each process
KILLS = int(os.environ.get("LDM_KILLS", "2"))


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of the newest checkpoint's tensors and of the exported autoencoder."""
    newest = max((run / "checkpoints").iterdir())
    files = [*newest.glob("*.safetensors"), *(run / "autoencoder").iterdir(), *(run / "reconstructions").iterdir()]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.timeout(900)
def test_killed_runs_end_bit_equal_to_an_uninterrupted_one(tmp_path: Path) -> None:
    arguments = ["autoencoder", "train", str(tiny_recipe(tmp_path))]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*arguments, "--out", str(whole)])
    draw = random.Random(0)
    killed = 0
    for mark in sorted(draw.choice(range(4, TINY["training"]["samples"], 4)) for _ in range(KILLS)):  # type: ignore[index]
        process = start([*arguments, f"data.workers={killed % 2}", "--out", str(broken)])
        killed += kill_at(process, broken, mark)
        process.communicate()
    (broken / ".autoencoder-dead").mkdir(exist_ok=True)
    for leftover in (".autoencoder-dead/config.json", ".exit.json.dead.part"):
        (broken / leftover).write_text("{")
    finish([*arguments, "--out", str(broken)])
    assert not [*broken.glob(".autoencoder-*"), *broken.glob(".*.part")]
    assert killed == KILLS
    assert losses(broken) == losses(whole)
    assert read_checks(broken) == read_checks(whole)
    assert hashes(broken) == hashes(whole)
