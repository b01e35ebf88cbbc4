"""Starting, stopping and going on with trainings from the page: only recipes and run folders of the command line.

A training is a process of its own, `ldm train`, which outlives the studio. Stopping is SIGTERM to the process that holds the
run's lock: the run saves and ends with exit code 75, and goes on from there when it is started again.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.run_folder.folder import RunFolder, owner_of
from open_ldm.run_folder.history import RunHistory, read_history
from open_ldm.run_folder.report.head import command_of

_LOG = "studio.log"


@dataclass(frozen=True)
class Training:
    """A run that may be started.

    Attributes:
        run: Its folder.
        command: The command line that begins it or goes on with it.
        begun_in: The folder from which paths in the command count; None for the one that the studio was started in.
    """

    run: Path
    command: tuple[str, ...]
    begun_in: Path | None = None

    @property
    def sentence(self) -> str:
        """The command, as one types it."""
        return shlex.join(self.command)


class Trainings:
    """The trainings that the page may start, by the name of the run.

    Args:
        runs: Run folders of the command line, by name; they go on with the command that began them.
        recipes: Recipes of the command line, by the name of their run; each trains into its folder.
    """

    def __init__(self, runs: Mapping[str, Path], recipes: Mapping[str, Training] | None = None) -> None:
        self.runs, self.recipes = dict(runs), dict(recipes or {})
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def names(self) -> list[str]:
        """Of all runs."""
        return list(dict.fromkeys([*self.runs, *self.recipes]))

    def folder(self, name: str) -> Path:
        """Return the folder of a run. Raises ConfigError for a name that the studio was not started with."""
        if name in self.recipes:
            return self.recipes[name].run
        if name not in self.runs:
            raise ConfigError(f"there is no run {name!r}", needed=nearest(name, self.names))
        return self.runs[name]

    @staticmethod
    def history_of(path: Path) -> RunHistory:
        """Read what a run tells, of its last stage that has begun."""
        folder = run_folder_of(path)
        begun = [part.path for part in RunFolder(folder).parts if part.events.is_file()]
        return read_history(begun[-1] if begun else folder)

    def sign(self, path: Path) -> str:
        """Return a text that is another one once there is something new to show of a run, wherever it is trained."""
        parts = [part.events for part in RunFolder(run_folder_of(path)).parts if part.events.is_file()]
        known = [(part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
        return f"{path} {known} {self.trains(path)}"

    def trains(self, path: Path) -> bool:
        """Return whether a process of this machine trains a run now."""
        return self._process(run_folder_of(path)) is not None

    def start(self, name: str) -> str:
        """Start a run, or go on with it; returns what is done, in words.

        Raises:
            ConfigError: It runs already, has ended, or was begun by a command that this page does not repeat.
        """
        folder = self.folder(name)
        if self.trains(folder):
            raise ConfigError(f"{name} is being trained already", fix="stop it first")
        training = self.recipes.get(name) or _goes_on(name, folder, self.history_of(folder))
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOG).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "open_ldm", *training.command[1:]],  # -P: no code of the folder it begins in
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=training.begun_in,
            )
        self._children = [one for one in self._children if one.poll() is None] + [child]
        return f"started: {training.sentence}"

    def stop(self, name: str) -> str:
        """Ask the process that trains a run to save and end. Raises ConfigError where none of this machine does."""
        process = self._process(self.folder(name))
        if process is None:
            raise ConfigError(f"no process of this machine trains {name}", fix="start it first")
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        return f"asked process {process} to save and stop"

    def _process(self, folder: Path) -> int | None:
        for child in self._children:
            child.poll()  # or an ended one would stay as an entry
        return owner_of(folder)


def training_of(recipe: str, overrides: Sequence[str], out: Path) -> Training:
    """Return the training of a recipe into a folder."""
    return Training(out, ("ldm", "train", recipe, *overrides, "--out", str(out)))


def _goes_on(name: str, folder: Path, history: RunHistory) -> Training:
    begun = next((event for event in reversed(history.events) if event.name in ("start", "resume")), None)
    argv = list(command_of(begun)) if begun is not None else []
    if read_history(folder).state.word == "finished":
        raise ConfigError(f"{name} has finished", fix="ldm train with more training.samples goes on")
    if argv[:2] != ["ldm", "train"]:
        raise ConfigError(f"{name} was not begun by ldm train on this machine", fix="go on where it was begun")
    if begun is not None and (processes := begun.number("processes")) is not None:
        raise ConfigError(f"{name} was begun by {processes:g} processes", fix="go on with it as it was begun")
    begun_in = begun.text("cwd") if begun is not None else ""
    if begun_in and not (Path(begun_in).is_absolute() and Path(begun_in).is_dir()):
        raise ConfigError(f"{name} was begun in a folder that is not here", fix="go on with it where it was begun")
    return Training(folder, (*_without_out(argv), "--out", str(folder.resolve())), Path(begun_in) if begun_in else None)


def _without_out(argv: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for part in argv:
        if not skip and part != "--out" and not part.startswith("--out="):
            kept.append(part)
        skip = part == "--out" and not skip
    return kept
