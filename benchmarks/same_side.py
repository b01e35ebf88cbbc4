"""One of the two checkouts that `same_behaviour.py` compares: its source, its folder, and how its commands are run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from same_cases import Case, Step
from same_prints import Facts, facts_of

TRIES = 5
"""Of killing a run before it ends by itself."""
START_SECONDS = 900.0
"""Until the slow libraries are imported, on a machine that does much else."""

_SERVER = """
import json, os, runpy, sys, traceback
import numpy, PIL.Image, pydantic, safetensors.torch, torch, typer, yaml

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(order["folder"])
        for number, path in enumerate((os.devnull, order["out"], order["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.argv = ["ldm", *order["arguments"]]
        code = 1
        try:
            runpy.run_module("open_ldm", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Reads commands from standard input and forks for each, once the slow libraries are imported; nothing of open_ldm is."""


class FailedError(Exception):
    """A command did not do what every checkout must; the comparison says which and why."""


@dataclass
class Side:
    """A checkout at work, one command at a time.

    `name`: old or new. `root`: the folder of its cases and of a copy of its source, so that byte code is written there and
    edits meanwhile change nothing. `fresh`: a new Python for every command; otherwise one that forks.
    """

    name: str
    root: Path
    patience_seconds: float
    fresh: bool = False
    _server: subprocess.Popen[bytes] | None = None
    _process: subprocess.Popen[bytes] | None = None
    _told: bytes = b""
    _pid: int = 0

    @property
    def source(self) -> Path:
        """The copy of the checkout's source."""
        return self.root / "src"

    @property
    def environment(self) -> dict[str, str]:
        """One thread, this checkout's source, help pages of a fixed width."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "LDM_DEBUG": "0"}
        return {**os.environ, **threads, **plain, "PYTHONPATH": str(self.source)}

    def copy_source(self, checkout: Path) -> None:
        """Take the source of a checkout, which must be what runs."""
        if not (checkout / "src" / "open_ldm").is_dir():
            raise SystemExit(f"{checkout} is no checkout: it has no src/open_ldm")
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(checkout / "src", self.source, ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-c", "import open_ldm; print(open_ldm.__file__)"]
        found = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=self.root, check=False)
        if not found.stdout.startswith(str(self.source)):
            raise SystemExit(f"open_ldm comes from {found.stdout.strip() or found.stderr.strip()}, not from {self.source}")

    def folder_of(self, case: Case, suffix: str = "") -> Path:
        """Where a case runs."""
        return self.root / (case.name.replace(", ", "-").replace(" ", "-") + suffix)

    def run_case(self, case: Case) -> Facts:
        """The first round, in a fresh folder."""
        folder = self.folder_of(case)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in case.files.items():
            (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        self._run_steps(case.steps, folder)
        return facts_of(folder)

    def run_again(self, case: Case, old: Side) -> Facts:
        """The second round, in a copy of what the old checkout left of the first."""
        folder = self.folder_of(case, "-again")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old.folder_of(case), folder)
        self._run_steps(case.again, folder)
        return facts_of(folder)

    def output(self, arguments: Sequence[str], folder: Path) -> str:
        """What a command prints. Raises FailedError when it fails or takes too long."""
        self._start(arguments, folder)
        code = self._ended(self.patience_seconds)
        out, err = (path.read_text(encoding="utf-8") for path in (self._out, self._err))
        if code is None:
            self.stop()
            raise FailedError(f"{self.name}: {_words(arguments)} took over {self.patience_seconds:g} s")
        if code:
            last = (err.strip() or out.strip() or "nothing said").splitlines()[-1]
            raise FailedError(f"{self.name}: {_words(arguments)} ended with {code}: {last}")
        return out

    def stop(self) -> None:
        """Kill the command that runs, if one does, and the process that forks."""
        self._kill()
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server, self._told = None, b""

    def _run_steps(self, steps: Iterable[Step], folder: Path) -> None:
        """Commands one after the other; what they print is kept in `folder`/printed."""
        for step in steps:
            if step.kill_at is not None:
                self._run_killed(step, folder)
            printed = self.output(step.arguments, folder)
            path = folder / "printed" / f"{len(list(folder.glob('printed/*'))):02d}-{step.arguments[0]}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(printed, encoding="utf-8")

    def _run_killed(self, step: Step, folder: Path) -> None:
        """Start a training and kill it once it has seen enough samples. Raises FailedError when it always ends before."""
        assert step.kill_at is not None
        run = folder / step.run
        for _ in range(TRIES):
            shutil.rmtree(run, ignore_errors=True)
            self._start(step.arguments, folder)
            code, deadline = None, time.monotonic() + self.patience_seconds
            while code is None and samples_seen(run) < step.kill_at and time.monotonic() < deadline:
                code = self._ended(0.003)
            if code is None:
                code = self._kill()
            if code == -signal.SIGKILL and samples_seen(run) >= step.kill_at:
                return
        raise FailedError(f"{self.name}: {_words(step.arguments)} could not be killed at {step.kill_at} samples")

    @property
    def _out(self) -> Path:
        return self.root / "last.out"

    @property
    def _err(self) -> Path:
        return self.root / "last.err"

    def _start(self, arguments: Sequence[str], folder: Path) -> None:
        """Begin a command in a session of its own."""
        if self.fresh:
            command = [sys.executable, "-m", "open_ldm", *arguments]
            with self._out.open("wb") as out, self._err.open("wb") as err:
                self._process = subprocess.Popen(
                    command, stdout=out, stderr=err, cwd=folder, env=self.environment, start_new_session=True
                )
            self._pid = self._process.pid
            return
        if self._server is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._server = subprocess.Popen([sys.executable, "-c", _SERVER], cwd=self.root, env=self.environment, **pipes)
        assert self._server.stdin is not None
        order = {"arguments": list(arguments), "folder": str(folder), "out": str(self._out), "err": str(self._err)}
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        if (pid := self._line(START_SECONDS)) is None:
            self.stop()
            raise FailedError(f"{self.name}: nothing started within {START_SECONDS:g} s; the machine is too busy")
        self._pid = int(pid)

    def _ended(self, wait_seconds: float) -> int | None:
        """The exit code of the running command, once it has one."""
        if self._process is not None:
            try:
                code: int | None = self._process.wait(wait_seconds)
            except subprocess.TimeoutExpired:
                return None
            self._process = None
        else:
            line = self._line(wait_seconds)
            code = None if line is None else int(line)
        if code is not None:
            self._pid = 0
        return code

    def _line(self, wait_seconds: float) -> str | None:
        """The next line that the forking process prints; None when there is none in time."""
        assert self._server is not None and self._server.stdout is not None
        deadline = time.monotonic() + wait_seconds
        while b"\n" not in self._told:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._server.stdout], [], [], left)[0]:
                return None
            told = os.read(self._server.stdout.fileno(), 4096)
            if not told:
                raise FailedError(f"{self.name}: the process that forks ended")
            self._told += told
        line, self._told = self._told.split(b"\n", 1)
        return line.decode()

    def _kill(self) -> int | None:
        if not self._pid:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        return self._ended(30.0)


def samples_seen(run: Path) -> int:
    """Position of the newest training event of a run folder; -1 before there is one."""
    try:
        lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return -1
    seen = [json.loads(line)["samples_seen"] for line in lines if line.startswith('{"event": "train"') and line.endswith("}")]
    return int(seen[-1]) if seen else -1


def _words(arguments: Sequence[str]) -> str:
    return f"ldm {' '.join(arguments[:3])}"
