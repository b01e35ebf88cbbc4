"""`ldm train --gpus` and `--processes`: torchrun with processes that stand in for the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from open_ldm.cli.main import main
from open_ldm.commands.launch import launch
from open_ldm.core.errors import ConfigError

STAND_IN = """
import os, signal, sys, time
out, rank = sys.argv[1], os.environ["RANK"]
def saved(number, frame):
    with open(out + "/signals" + rank, "a") as file:
        file.write(f"{number} ")
signal.signal(signal.SIGTERM, saved)
open(out + "/started" + rank, "w").write(" ".join(sys.argv[2:]))
while not os.path.exists(out + "/signals" + rank):
    time.sleep(0.02)
time.sleep(1)
open(os.environ["LDM_EXIT_CODES"] + "/" + rank, "w").write("75")
sys.exit(75)
"""
PARENT = (
    "import os, sys; from open_ldm.commands.launch import launch; os.environ['PYTHONPATH'] = sys.argv[1] + '/instead'; "
    + ("sys.exit(launch([sys.argv[1], 'train', 'a.yaml'], processes=2))")
)
PATIENCE_SECONDS = 120


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_reaches_every_process_once_and_the_exit_code_is_the_runs(tmp_path: Path) -> None:
    (tmp_path / "instead").mkdir()
    (tmp_path / "instead" / "open_ldm.py").write_text(STAND_IN)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while len(list(tmp_path.glob("started*"))) < 2:
        assert time.monotonic() < until and parent.poll() is None, parent.communicate()[1]
        time.sleep(0.02)
    parent.send_signal(signal.SIGTERM)
    _, errors = parent.communicate(timeout=PATIENCE_SECONDS)
    assert parent.returncode == 75, errors
    assert [(tmp_path / f"signals{rank}").read_text() for rank in range(2)] == [f"{int(signal.SIGTERM)} "] * 2
    assert (tmp_path / "started1").read_text() == "train a.yaml"
    assert errors.startswith("2 processes on the CPU of this machine by gloo") and "Traceback" not in errors


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gpus": 99}, "--gpus 99, but this machine has .*--processes 99"),
        ({"gpus": 1, "processes": 2}, "both given"),
    ],
)
def test_what_cannot_be_launched_is_refused(given: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        launch(["train", "x"], **given)


def test_a_process_of_several_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigError, match="already one of several"):
        launch(["train", "x"], processes=2)


@pytest.mark.parametrize("arguments", [["train", "x", "--nproc-per-node", "2"], ["train", "x", "--standalone"]])
def test_options_of_torchrun_lead_to_torchrun(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "torchrun --nproc-per-node N -m open_ldm train" in capsys.readouterr().err


def test_a_dry_run_needs_no_processes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "x", "--dry-run", "--processes", "2"])
    assert "leave --gpus and --processes out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["training.device=cuda", "--processes", "2"], "training.device=cuda and --processes 2 contradict each other"),
        (["training={device: mps, samples: 8}", "--processes", "2"], "training.device=mps and --processes 2 contradict"),
        (["training.device=cpu", "--gpus", "1"], "training.device=cpu and --gpus 1 contradict each other"),
    ],
)
def test_a_device_that_contradicts_the_processes_is_refused(
    given: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("open_ldm.commands.launch.launch", lambda *_, **__: pytest.fail("launched"))
    with pytest.raises(SystemExit) as ended:
        main(["train", "demo", *given])
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_a_device_that_fits_the_processes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[list[str]] = []
    monkeypatch.setattr("open_ldm.commands.launch.launch", lambda arguments, **_: launched.append(arguments) or 0)
    for device in ("cpu", "auto"):
        words = ["train", "demo", f"training.device={device}", "training.samples=8", "--processes", "2"]
        with pytest.raises(SystemExit):
            main(words)
        assert launched.pop() == words


def test_many_tasks_of_slurm_without_srun_train_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(SystemExit) as ended:
        main(["train", "demo", "--out", str(tmp_path / "run")])
    assert ended.value.code == 2 and "put srun in front of the command" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and "RANK" not in os.environ
