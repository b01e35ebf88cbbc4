"""The run folder: where everything lies, who may write to it, and how it ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from open_ldm.core.errors import DiskError, RunLockedError
from open_ldm.core.files import open_handle, read_at, remove_temporary_files, write_json, write_text
from open_ldm.core.locks import lock_file


class RunFolder:
    """Paths of a run; as a context manager it holds the run's lock, which ends with the process, however that ends.

    Attributes:
        config: The resolved recipe, itself runnable.
        events: The event log.
        checkpoints: Checkpoints, newest last by name.
        stages: Run folders of the stages of a recipe that has some: 1-NAME, 2-NAME, ...
        transfer: The receipt: what the run started from, and what became of every tensor.
        samples: Preview grids, one per time.
        data: What data was seen.
        health: Bad samples by reason.
        exit: How the last process ended.
        report: The page for people.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.report = path / "config.yaml", path / "report.html"
        self.events, self.exit = path / "events.jsonl", path / "exit.json"
        self.checkpoints, self.stages, self.samples = path / "checkpoints", path / "stages", path / "samples"
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
        if not _try_lock(self._lock):
            owner = read_at(self._lock, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(self._lock)
            self._lock = None
            raise RunLockedError(
                f"run folder {self.path} is in use by {owner}", fix="wait for it to end, or choose another --out"
            )
        remove_temporary_files(self.path)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
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


def _try_lock(handle: int) -> bool:
    try:
        return lock_file(handle, wait=False)
    except OSError:
        return False
