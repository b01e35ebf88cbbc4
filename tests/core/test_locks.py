"""Locks between processes with the means of POSIX, with those of Windows, and without any."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from open_ldm.core import files, locks
from open_ldm.core.files import open_handle, read_at, remove_temporary_files, write_bytes
from open_ldm.encoded.cache.section import Section, SectionPlan

ROOT = Path(__file__).parents[2]
fcntl = pytest.importorskip("fcntl", reason="Windows' own locks are used there")
WINDOWS = pytest.param("windows", marks=pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="Linux plays Windows"))
KINDS = ["posix", WINDOWS]

ENTER = """
import os, sys
from pathlib import Path
if {windows}:
    from tests.windows_locks import pretend
    pretend()
from open_ldm.core.errors import RunLockedError
from open_ldm.run_folder.folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])):
        print("entered", os.getpid(), flush=True)
        sys.stdin.read()
except RunLockedError as error:
    print(error.one_line(), flush=True)
    sys.exit(error.exit_code)
"""


@contextmanager
def entering(kind: str, run: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that enters the run folder and stays there until its input ends."""
    command = [sys.executable, "-c", ENTER.format(windows=kind == "windows"), str(run)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_folder_has_one_owner_and_a_kill_frees_it(kind: str, tmp_path: Path) -> None:
    with entering(kind, tmp_path / "run") as owner:
        assert owner.stdout is not None
        first = owner.stdout.readline()
        with entering(kind, tmp_path / "run") as second:
            said, _ = second.communicate(timeout=120)
        assert second.returncode == 73
        assert f"is in use by process {owner.pid} on " in said
        owner.kill()
        owner.wait(timeout=60)
        with entering(kind, tmp_path / "run") as third:
            said, _ = third.communicate(timeout=120)
    assert first.split() == ["entered", str(owner.pid)] and said.startswith("entered")
    assert (tmp_path / "run" / ".lock").read_bytes() == b""


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' locks in this process."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        pytest.skip("Linux plays Windows")
    from tests import windows_locks

    monkeypatch.setattr(locks, "POSIX", False)
    monkeypatch.setattr(files, "POSIX", False)
    monkeypatch.setattr(locks, "_msvcrt", windows_locks)


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two handles of one file."""
    pair = tuple(open_handle(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2))
    yield pair[0], pair[1]
    for handle in pair:
        os.close(handle)


@pytest.mark.usefixtures("windows")
def test_bytes_are_locked_one_by_one_on_windows(handles: tuple[int, int]) -> None:
    one, other = handles
    assert locks.lock_byte(one, 3, wait=False)
    assert not locks.lock_byte(other, 3, wait=False)
    assert locks.lock_byte(other, 4, wait=False)
    locks.unlock_byte(one, 3)
    assert locks.lock_byte(other, 3, wait=False)


@pytest.mark.usefixtures("windows")
def test_a_file_is_locked_behind_its_content_on_windows(handles: tuple[int, int]) -> None:
    assert locks.lock_file(handles[0], wait=False)
    assert not locks.lock_file(handles[1], wait=False)
    assert locks.lock_byte(handles[1], 0, wait=False)


@pytest.mark.usefixtures("windows")
def test_waiting_outlasts_windows_own_patience(handles: tuple[int, int]) -> None:
    one, other = handles
    assert locks.lock_byte(one, 0, wait=False)
    got = threading.Event()

    def wait() -> None:
        locks.lock_byte(other, 0, wait=True)
        got.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert not got.wait(0.3)
    locks.unlock_byte(one, 0)
    assert got.wait(60)


@pytest.mark.usefixtures("windows")
def test_shards_are_claimed_once_on_windows(tmp_path: Path) -> None:
    plan = SectionPlan("latents", {}, 4)
    one, other, late = (Section(tmp_path, plan, lambda: 1) for _ in range(3))
    mine, theirs = one.claimed(range(4)), other.claimed(range(4))
    taken = [next(mine), next(theirs), next(mine), next(theirs)]
    assert taken == [0, 1, 2, 3] and not list(mine) and not list(theirs)
    one.close()
    assert list(late.claimed(range(4))) == [0, 2]
    for section in (other, late):
        section.close()


def test_without_any_locks_one_process_can_work(
    handles: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POSIX", False)
    monkeypatch.setattr(locks, "_msvcrt", None)
    assert locks.lock_file(handles[0], wait=True) and locks.lock_byte(handles[0], 2, wait=False)
    locks.unlock_byte(handles[0], 2)


@pytest.mark.usefixtures("windows")
def test_files_are_written_whole_on_windows(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"new\r\n")
    assert (tmp_path / "a").read_bytes() == b"new\r\n" and [each.name for each in tmp_path.iterdir()] == ["a"]
    young, old = tmp_path / ".a.1.part", tmp_path / ".a.2.part"
    for file in (young, old):
        file.write_bytes(b"")
    os.utime(old, (time.time() - 1e5,) * 2)
    remove_temporary_files(tmp_path)
    assert young.exists() and not old.exists()


def test_reading_at_a_place_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread")
    (tmp_path / "a").write_bytes(b"0123456789")
    handle = open_handle(tmp_path / "a", os.O_RDONLY)
    try:
        assert read_at(handle, 3, 4) == b"456" and read_at(handle, 9, 8) == b"89" and read_at(handle, 2, 0) == b"01"
    finally:
        os.close(handle)
