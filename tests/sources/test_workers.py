"""Data workers of a process that was killed: what they held is free at once, also when one hangs on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from open_ldm.core.errors import RunLockedError
from open_ldm.run_folder import folder as run_folder
from open_ldm.run_folder.folder import RunFolder

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
