"""Trains several recipes at once, each in a process of its own: small networks gain nothing from a second thread."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import ConfigError, OpenLdmError, StoppedError
from open_ldm.core.events import Progress, effective_events, read_events
from open_ldm.core.files import read_json_object
from open_ldm.core.signals import StopRequest
from open_ldm.runs.folder import RunFolder

_LOOK_EVERY_SECONDS = 0.5
_SAVE_SECONDS = 60.0
"""What a process gets to save what it has after it was asked to stop."""


@dataclass(frozen=True)
class Training:
    """One of them: what `ldm train` is given, its run folder, and how many samples it trains."""

    arguments: tuple[str, ...]
    out: Path
    samples: int


def train_side_by_side(trainings: Mapping[str, Training], *, silent: bool = False) -> None:
    """Train all, going on where their runs stopped.

    Args:
        trainings: By name.
        silent: No progress is shown.

    Raises:
        StoppedError: A signal came; all runs have saved.
        OpenLdmError: One of them failed; the others were stopped and have saved.
    """
    threads = max(1, (os.cpu_count() or 1) // len(trainings))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    total = sum(each.samples for each in trainings.values())
    with StopRequest() as stop, Progress(total, label=f"train {len(trainings)} models", silent=silent) as progress:
        try:
            for name, each in trainings.items():
                processes[name] = _started(each, environment)
            while any(process.poll() is None for process in processes.values()):
                stop.raise_if_requested()
                _raise_for_failed(trainings, processes)
                progress.update(sum(_samples_seen(each.out) for each in trainings.values()))
                time.sleep(_LOOK_EVERY_SECONDS)
            _raise_for_failed(trainings, processes)
            progress.update(total)
        finally:
            _stop(list(processes.values()))


def _started(training: Training, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    training.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "open_ldm", "train", *training.arguments, "--out", str(training.out), "--json"]
    with (training.out / "train.log").open("wb") as log:
        return subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _raise_for_failed(trainings: Mapping[str, Training], processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        code = process.poll()
        if code == 75:
            raise StoppedError(f"the training of {name} was stopped", fix="run the same command again")
        if code:
            said = (trainings[name].out / "train.log").read_text(errors="replace").strip().splitlines()
            reason = str(read_json_object(trainings[name].out / "exit.json").get("reason") or (said[-1] if said else ""))
            kind = ConfigError if code == ConfigError.exit_code else OpenLdmError
            raise kind(f"the training of {name} ended with code {code}: {reason.removeprefix('error: ')}")


def _samples_seen(run: Path) -> int:
    events = effective_events(read_events(RunFolder(run).events))
    return max((event.samples_seen for event in events), default=0)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(_SAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
