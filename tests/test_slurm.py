"""The job files of examples/slurm run as they stand, with an `srun` and a `scontrol` that stand in for Slurm's."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "slurm"
TASKS = 3
SRUN = """#!{python}
import os, signal, subprocess, sys
rest = sys.argv[1:]
while rest[0].startswith("-"):
    rest.pop(0)
tasks = int(os.environ["SLURM_NTASKS"])
started = []
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in started])
for n in range(tasks):
    given = dict(os.environ, SLURM_PROCID=str(n), SLURM_LOCALID=str(n), SLURM_STEP_NUM_TASKS=str(tasks))
    started.append(subprocess.Popen(rest, env=given))
open("srun", "w").write(str(os.getpid()))  # from here on it hands signals on to all
codes = [task.wait() for task in started]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
TASK = """#!{python}
import json, os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
open("task" + os.environ["SLURM_PROCID"], "a").write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
code = int(os.environ["CODE"])
if code == 75:
    time.sleep(60)
if code == 137 and os.environ["SLURM_PROCID"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(69 if code == 137 else code)
"""
SCONTROL = """#!{python}
import sys
open("scontrol", "a").write(" ".join(sys.argv[1:]) + "\\n")
"""
COMMANDS = {
    "train": "ldm train",
    "encode": "ldm encode",
    "evaluate": "torchrun --standalone --nproc-per-node 4 -m open_ldm evaluate",
    "array": "ldm",
}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="job files are for bash")


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """Starts a job file in `tmp_path`, as Slurm would."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("ldm", TASK), ("torchrun", TASK)):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)

    def start(name: str, code: int, **more: str) -> subprocess.Popen[str]:
        given = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "SLURM_NTASKS": str(TASKS),
            "SLURM_JOB_ID": "42",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_ARRAY_JOB_ID": "42",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "16",
            "CODE": str(code),
            **more,
        }
        command = ["bash", "-u", str(FOLDER / f"{name}.sbatch"), "a recipe", "--out", "runs/x"]
        return subprocess.Popen(
            command, env={**os.environ, **given}, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


def written(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_task_runs_the_command_and_a_finished_job_is_not_queued_again(name: str, job: Any, tmp_path: Path) -> None:
    process = job(name, 0)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    for rank in range(TASKS):
        assert [json.loads(line) for line in written(tmp_path / f"task{rank}")] == [
            [*shlex.split(COMMANDS[name]), "a recipe", "--out", "runs/x", *(["--task", "3/16"] if name == "array" else [])]
        ]
    assert not written(tmp_path / "scontrol")


@pytest.mark.parametrize("name", ["train", "encode", "array"])
def test_a_job_at_the_end_of_its_time_saves_and_is_queued_again(name: str, job: Any, tmp_path: Path) -> None:
    process = job(name, 75)
    until = time.monotonic() + 60
    while not all(written(tmp_path / name) for name in ("srun", *(f"task{rank}" for rank in range(TASKS)))):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(int((tmp_path / "srun").read_text()), signal.SIGUSR1)  # Slurm signals the steps of a job, not its script
    process.communicate(timeout=60)
    assert process.returncode == 75 and written(tmp_path / "scontrol") == [f"requeue 42{'_3' * (name == 'array')}"]


@pytest.mark.parametrize(("code", "again"), [(69, True), (137, True), (2, False), (65, False)])
def test_a_lost_process_queues_the_job_again_and_an_error_does_not(code: int, again: bool, job: Any, tmp_path: Path) -> None:
    process = job("train", code)
    process.communicate(timeout=60)
    assert process.returncode == code and bool(written(tmp_path / "scontrol")) == again
    process = job("train", code, SLURM_RESTART_COUNT="20")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and len(written(tmp_path / "scontrol")) == again
    assert ("sbatch it again" in errors) == again


@pytest.mark.parametrize("name", COMMANDS)
def test_the_head_of_a_job_file_asks_for_what_the_page_promises(name: str) -> None:
    text = (FOLDER / f"{name}.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["signal"].startswith("USR1@") and int(options["signal"].split("@")[1]) >= 120
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time"} <= options.keys()
    assert ("requeue" in options) == (name != "evaluate")
    assert ("--wait=" in text) or "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=" in text
    page = (FOLDER.parents[1] / "docs" / "clusters.md").read_text()
    assert f"`{name}.sbatch`" in page
