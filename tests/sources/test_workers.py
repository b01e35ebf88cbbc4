"""Data workers of a process that was killed: what they held is free at once, also when one hangs on a disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from open_ldm.core.errors import RunLockedError
from open_ldm.run_folder import folder as run_folder
from open_ldm.run_folder.folder import RunFolder

ENDING_SECONDS = 60
"""How long a machine under load may take to end processes; what does not end on its own does not end in ten times that."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked on POSIX alone")

READ = """
import sys, time
from pathlib import Path
from open_ldm.run_folder.folder import RunFolder
from open_ldm.sources.workers import read_ahead

def read(numbers):
    if numbers[0] == 4:
        (Path(sys.argv[1]) / "hangs").touch()
        time.sleep(60)  # a disk that does not answer
    return list(numbers)

with RunFolder(Path(sys.argv[1])):
    for batch in read_ahead(read, ([start, start + 1] for start in range(0, 60, 2)), 3):
        print(batch, flush=True)
"""


def test_a_killed_run_with_workers_frees_its_folder_within_a_second(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", READ, str(run)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        until = time.monotonic() + 60
        while not (run / "hangs").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        with pytest.raises(RunLockedError, match=f"process {process.pid} on"), RunFolder(run):
            pass
        process.kill()
        process.wait(timeout=10)
        started = time.monotonic()
        with RunFolder(run):
            assert time.monotonic() - started < 1
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the workers, one of which hangs
        process.wait(timeout=10)


READ_BY_A_SERVER = """
import multiprocessing, os, sys, time
from functools import partial
from pathlib import Path
from open_ldm.sources.workers import read_ahead

def read(folder, numbers):
    (folder / str(os.getpid())).touch()
    return list(numbers)

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    for batch in read_ahead(partial(read, Path(sys.argv[1])), ([start] for start in range(10**9)), 2):
        time.sleep(0.05)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_workers_of_a_fork_server_end_with_the_trainer(tmp_path: Path) -> None:
    """Such workers are Python 3.14's; their parent is the server, which is alive as long as they are."""
    program, pids = tmp_path / "program.py", tmp_path / "pids"
    program.write_text(READ_BY_A_SERVER)
    pids.mkdir()
    process = subprocess.Popen([sys.executable, str(program), str(pids)])
    until = time.monotonic() + ENDING_SECONDS
    while len(workers := [int(path.name) for path in pids.iterdir()]) < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait(timeout=10)
    try:
        while any(map(_runs, workers)):
            assert time.monotonic() < until, "workers live on without the trainer"
            time.sleep(0.05)
    finally:
        for worker in filter(_runs, workers):
            os.kill(worker, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_lock_of_a_process_that_is_ending_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(tmp_path) as held:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait(timeout=60)
        name = (tmp_path / ".lock").read_text()
        (tmp_path / ".lock").write_text(name.replace(f"process {os.getpid()}", f"process {gone.pid}"))
        monkeypatch.setattr(run_folder, "_ENDING_SECONDS", 0.2)
        with pytest.raises(RunLockedError, match=f"process {gone.pid} .*which has ended but still holds its lock"):
            RunFolder(tmp_path).__enter__()
        assert f"process {gone.pid} on" in (said := capsys.readouterr().err) and "is ending; waiting up to" in said

        monkeypatch.setattr(run_folder, "_ENDING_SECONDS", 10.0)
        monkeypatch.setattr(run_folder.time, "sleep", lambda _: held.__exit__(None, None, None))
        with RunFolder(tmp_path):
            assert f"process {os.getpid()}" in (tmp_path / ".lock").read_text()


def test_nobody_owns_a_lock_that_is_free(tmp_path: Path) -> None:
    """A killed run leaves its number behind, which another process has by now; the studio would stop that one."""
    with RunFolder(tmp_path):
        (tmp_path / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
        assert run_folder.owner_of(tmp_path) == os.getpid()
    (tmp_path / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    assert run_folder.owner_of(tmp_path) is None


def test_a_second_start_leaves_the_folder_of_the_first(tmp_path: Path) -> None:
    run = tmp_path / "run"
    second = run_folder.nothing_left_if_nothing_began(RunFolder(run))
    second.__enter__()  # it has looked before the first made the folder
    with RunFolder(run), pytest.raises(RunLockedError):
        try:
            RunFolder(run).__enter__()
        except RunLockedError as error:
            second.__exit__(type(error), error, error.__traceback__)
            raise
    assert (run / ".lock").is_file()
