"""Modules in processes of their own that cost no imports: on Linux they are forked from a server that has them.

A fork has the hash seed of its server, so what must hold between two separate starts is also tested with `fresh=True`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import sketches

PRELOADED = ["tests.preloaded"]
"""Modules that the server imports before it forks."""

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def preload(*modules: str) -> None:
    """Have the server import more; called while a file of tests is imported, which is before any process is started."""
    PRELOADED.extend(module for module in modules if module not in PRELOADED)


class Started:
    """`python -m MODULE ARGUMENTS`, or `python MODULE` for the path of a program, with the part of subprocess.Popen that
    tests need.

    `more`: environment variables beside those of this process; those of PYTHONPATH are found. `log`: takes what is written
    to both streams, at its end.
    """

    def __init__(
        self, module: str, arguments: Sequence[str] = (), more: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> None:
        if sys.platform == "linux":
            CONTEXT.set_forkserver_preload(PRELOADED)
        self._streams = [str(log)] * 2 if log else [_empty_file("stdout-"), _empty_file("stderr-")]
        environment = {**os.environ, **(more or {})}
        self._process = CONTEXT.Process(
            target=_run, args=(module, list(arguments), environment, self._streams, sketches.sketching())
        )
        self._process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("ldm", timeout or 0)
        return self._process.exitcode

    def said(self) -> str:
        """What it has written to standard output so far."""
        return Path(self._streams[0]).read_text()

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        self.wait(timeout)
        output, errors = (Path(stream).read_bytes() for stream in self._streams)
        return output, errors


def _empty_file(prefix: str) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix)
    os.close(handle)
    return name


def _run(module: str, arguments: list[str], environment: dict[str, str], streams: list[str], sketched: bool) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    for descriptor, target in enumerate(streams, start=1):
        opened = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = [module, *arguments]
    if sketched:
        sketches.start_sketching()
    multiprocessing.set_start_method("fork", force=True)  # as in an interpreter of its own, not the server's
    try:
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a fork ends without them


def run(command: Sequence[str], timeout: float | None = None, **_: object) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of [python, -m, MODULE, ...] with what it writes as text."""
    _, flag, module, *arguments = command
    assert flag == "-m"
    process = Started(module, arguments)
    said, errors = process.communicate(timeout)
    return subprocess.CompletedProcess(command, process.returncode or 0, said.decode(), errors.decode())


Program = Started | subprocess.Popen[bytes]


def start(arguments: Sequence[str], *, fresh: bool = False) -> Program:
    """`ldm ARGUMENTS`; `fresh` starts a new interpreter, as people do."""
    if fresh:
        command = [sys.executable, "-m", "open_ldm", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return Started("open_ldm", arguments)
