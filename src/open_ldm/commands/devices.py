"""Several trainings at once over some devices: one process on each, the next one as soon as a device is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from open_ldm.core.errors import ConfigError, OpenLdmError, StoppedError
from open_ldm.core.signals import StopRequest
from open_ldm.core.threads import environment_of

CPU = "cpu"
ANY = "any"
"""What a training takes by itself: it sees every device that this process sees."""
LOG = "training.log"
_LOOK_SECONDS = 0.2
_STOP = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
"""Windows cannot send SIGTERM: `terminate` would end the training at once there."""


@dataclass(frozen=True)
class Training:
    """`command` ('ldm', 'train', ...) trains in the folder `run`."""

    run: Path
    command: tuple[str, ...]


def devices_of(text: str) -> tuple[str, ...]:
    """'0,1' -> CUDA devices by number; 'cpu,cpu' -> two processes without one. Raises ConfigError."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name != CPU and not name.isdigit():
            raise ConfigError(
                f"--devices {text!r}: {name!r} is not a device", needed="numbers of CUDA devices such as 0,1, or cpu"
            )
    if twice := sorted({name for name in names if name != CPU and names.count(name) > 1}):
        raise ConfigError(f"--devices {text!r}: {twice[0]} is named twice", needed="each device once")
    return names


def require_devices(devices: Sequence[str]) -> None:
    """Raise ConfigError for a device, of `devices_of`, that this machine does not have."""
    for device in devices:
        _environment(device, os.environ)


def train_over(
    devices: Sequence[str],
    trainings: Sequence[Training],
    say: Callable[[str], None],
    *,
    threads: int | None = None,
    on_look: Callable[[], None] = lambda: None,
) -> None:
    """Run all trainings, as many at once as there are devices; each one logs to training.log in its folder.

    A stop signal is passed on, and every training saves. After a failure the running trainings finish and no new one begins.

    Args:
        devices: From `devices_of`, or `ANY`.
        trainings: Commands with their run folders.
        say: Called with one line for each training that begins.
        threads: Of each training, unless OMP_NUM_THREADS says otherwise; None has each take every core.
        on_look: Called several times a second while trainings run.

    Raises:
        ConfigError: There is no such device.
        OpenLdmError: A training failed.
        StoppedError: A stop signal came.
    """
    chosen = {} if threads is None else environment_of(threads)
    environments = [_environment(device, {**os.environ, **chosen}) for device in devices]
    waiting = list(trainings)
    running: dict[int, tuple[Training, subprocess.Popen[bytes]]] = {}
    failed: list[Training] = []
    codes: list[int] = []
    passed_on = False
    with StopRequest() as stop:
        while running or (waiting and not failed and stop.name is None):
            for index in [index for index, (_, process) in running.items() if process.poll() is not None]:
                training, process = running.pop(index)
                codes.append(process.returncode)
                early = passed_on and process.returncode == -signal.SIGTERM  # it had not begun to listen
                if process.returncode not in (0, StoppedError.exit_code) and not early:
                    failed.append(training)
            for index, device in enumerate(devices):
                if index not in running and waiting and not failed and stop.name is None:
                    training = waiting.pop(0)
                    say(f"  on {device}: {training.run}")
                    running[index] = training, _started(training, environments[index])
            if stop.name is not None and not passed_on:
                passed_on = True
                for _, process in running.values():
                    process.send_signal(_STOP)
            if running:
                on_look()
                time.sleep(_LOOK_SECONDS)
    if failed:
        raise OpenLdmError(f"training in {failed[0].run} failed{_said(failed[0])}", fix=f"read {failed[0].run / LOG}")
    if stop.name is not None or StoppedError.exit_code in codes:
        raise StoppedError("stopped and saved")


def _said(training: Training) -> str:
    """What a failed training said last, if that is an error."""
    lines = (training.run / LOG).read_text(errors="replace").strip().splitlines()
    return f": {lines[-1].removeprefix('error: ')}" if lines and lines[-1].startswith("error: ") else ""


def _started(training: Training, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    training.run.mkdir(parents=True, exist_ok=True)
    with (training.run / LOG).open("ab") as log:
        # A session of its own: Ctrl+C reaches the children once, by way of the parent.
        return subprocess.Popen(
            [sys.executable, "-m", "open_ldm", *training.command[1:]],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def _environment(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """With one CUDA device to be seen, of those that are seen here; or with none; or, for `ANY`, as it is."""
    if device == ANY:
        return dict(environment)
    if device == CPU:
        return {**environment, "CUDA_VISIBLE_DEVICES": ""}
    seen = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = len(seen) or torch.cuda.device_count()
    if int(device) >= count:
        needed = f"0 to {count - 1}" if count else "cpu: there is no CUDA device here"
        fix = "choose other devices, or leave --devices out"
        raise ConfigError(f"--devices: there is no device {device}", needed=needed, fix=fix)
    return {**environment, "CUDA_VISIBLE_DEVICES": seen[int(device)] if seen else device}
