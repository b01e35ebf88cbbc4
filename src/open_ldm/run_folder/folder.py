"""The run folder: where everything lies, who may write to it, and how it ended."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from open_ldm.core.errors import DiskError, RunLockedError, StoppedError, escaped
from open_ldm.core.files import open_handle, read_at, remove_temporary_files, write_json, write_text
from open_ldm.core.locks import close_kept, keep_from_children, lock_file, process_ended

_LAUNCHED = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Environment variables of torchrun and Slurm."""
_OF_A_FAILED_START = {".lock", "exit.json"}
_ENDING_SECONDS = 10.0
_ASK_EVERY_SECONDS = 0.05


class RunFolder:
    """Paths of a run; as a context manager it holds the run's lock, which ends with the process, however that ends.

    Attributes:
        config: The resolved recipe, itself runnable.
        events: The event log.
        checkpoints: Checkpoints, newest last by name.
        averages: Snapshots of averages by powers, for `ldm ema`; named as checkpoints are.
        stages: Run folders of the stages of a recipe that has some: 1-NAME, 2-NAME, ...
        transfer: The receipt: what the run started from, and what became of every tensor.
        samples: Preview grids, one per time.
        data: What data was seen.
        health: Bad samples by reason.
        exit: How the last process ended.
        report: The page for people.
        vae: The autoencoder in diffusers' format, in a folder that `pack_model` made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.report = path / "config.yaml", path / "report.html"
        self.events, self.exit = path / "events.jsonl", path / "exit.json"
        self.checkpoints, self.stages, self.samples = path / "checkpoints", path / "stages", path / "samples"
        self.averages = path / "averages"
        self.vae = path / "vae"
        self.transfer, self.data, self.health = path / "transfer.json", path / "data.json", path / "health.json"
        self._lock: int | None = None

    @property
    def parts(self) -> list[RunFolder]:
        """The run folders of its stages in their order, or itself alone."""
        numbered = [each for each in self.stages.glob("*-*") if each.name.split("-")[0].isdigit()]
        ordered = sorted(numbered, key=lambda each: int(each.name.split("-")[0]))
        return [RunFolder(each) for each in ordered] or [self]

    def __enter__(self) -> RunFolder:
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open_handle(lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise DiskError.of(f"cannot write to run folder {self.path}", error, fix="choose another --out") from error
        keep_from_children(self._lock)  # data workers may outlive a process that was killed
        if not _try_lock(self._lock) and not self._locked_once_ended(self._lock):
            owner = _owner_of(self._lock)
            ended = ", which has ended but still holds its lock" if owner.ended else ""
            close_kept(self._lock)
            self._lock = None
            raise RunLockedError(
                f"run folder {self.path} is in use by {owner.text}{ended}", fix="wait for it to end, or choose another --out"
            )
        remove_temporary_files(self.path)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return self

    def _locked_once_ended(self, lock: int) -> bool:
        """Wait for the lock of a process that is ending, such as one that was killed a moment ago; returns whether it came."""
        until = time.monotonic() + _ENDING_SECONDS
        said = False
        while _owner_of(lock).ended and time.monotonic() < until:
            if not said:
                print(
                    f"{_owner_of(lock).text} is ending; waiting up to {_ENDING_SECONDS:.0f} s for {self.path}", file=sys.stderr
                )
                said = True
            time.sleep(_ASK_EVERY_SECONDS)
            if _try_lock(lock):
                return True
        return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
            close_kept(self._lock)
            self._lock = None

    def write_config(self, text: str) -> None:
        """Write the resolved recipe."""
        write_text(self.config, text)

    def write_exit(
        self, code: int, reason: str, samples_seen: int, hint: str = "", *, stages: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Write exit.json, for schedulers that see only the exit code of torchrun.

        Args:
            code: Exit code of the run (docs/reliability.md, 3.9).
            reason: Why it ended.
            samples_seen: By then.
            hint: What to do, where something is to be done.
            stages: How each stage ended, of a run in stages.
        """
        content = {"code": code, "reason": reason, "samples_seen": samples_seen, "hint": hint}
        write_json(self.exit, {**content, "stages": list(stages)} if stages else content)


@contextmanager
def nothing_left_if_nothing_began(folder: RunFolder) -> Iterator[None]:
    """Context manager around a run: a new folder is removed where the run fails before its first event.

    It stays after a stop signal, which is no failure, where another process holds it, and where others look into it for
    exit.json: under a launcher, and for a stage of a run.
    """
    path = folder.path
    made = [each for each in (path, *path.parents) if not each.exists()]
    looked_at = any(name in os.environ for name in _LAUNCHED) or path.parent.name == "stages"
    try:
        yield
    except (StoppedError, RunLockedError):
        raise
    except BaseException:
        if made and not looked_at:
            with suppress(OSError):
                if {entry.name for entry in path.iterdir()} <= _OF_A_FAILED_START:
                    for entry in path.iterdir():
                        entry.unlink()
                    for each in made:
                        each.rmdir()
        raise


@dataclass(frozen=True)
class _Owner:
    """Who wrote its name into a lock, and whether it is a process of this machine that has ended."""

    text: str
    ended: bool


def _owner_of(lock: int) -> _Owner:
    text = escaped(read_at(lock, 200, 0).decode(errors="replace").strip())
    named = _named(lock)
    ended = named is not None and named[2] == socket.gethostname() and process_ended(int(named[1]))
    return _Owner(text or "another process", ended)


def owner_of(run: Path) -> int | None:
    """Return the process of this machine that holds a run's lock; None where nobody does, or one of another machine."""
    try:
        handle = open_handle(run / ".lock", os.O_RDWR)
    except OSError:
        return None
    try:
        # The name alone may be that of a process that was killed, whose number another one has by now.
        named = None if _try_lock(handle) else _named(handle)
    finally:
        os.close(handle)
    here = named is not None and named[2] == socket.gethostname() and not process_ended(int(named[1]))
    return int(named[1]) if named is not None and here else None


def is_run(path: Path) -> bool:
    """Return whether a folder holds a run: its resolved recipe, or a checkpoint."""
    return (path / "config.yaml").is_file() or any((path / "checkpoints").glob("samples-*/MANIFEST.json"))


def _named(lock: int) -> re.Match[str] | None:
    text = escaped(read_at(lock, 200, 0).decode(errors="replace").strip())
    return re.fullmatch(r"process ([0-9]{1,10}) on (.*)", text)


def _try_lock(handle: int) -> bool:
    try:
        return lock_file(handle, wait=False)
    except OSError:
        return False
