"""Kills a run of one process again and again (SIGKILL), and looks at what becomes of it. For `torture.py alone`; Linux only.

Cells are five denoisers x {pixels, cache} x {accumulation, stages, a start from another run's weights, another average} x
{0, 1, 3} data workers. The run in one go that a cell is compared with has no workers; that of a transfer is started as people
start it, with a hash seed of its own, and all others are forked from this process, which has the imports already, and draw no
pages, which would be most of their work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  (what a fork would import again)

import open_ldm.cli.train
import open_ldm.runs.recorder
import open_ldm.runs.stages
import open_ldm.runs.train
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import PREFIX, samples_seen_of
from open_ldm.cli.main import main as ldm
from open_ldm.core.events import effective_events, read_events
from open_ldm.core.locks import lock_file

STORAGE = ("pixels", "cache")
FEATURES = ("accumulation", "stages", "transfer", "average")
WORKERS = (0, 1, 3)
SAMPLES, BATCH, INTERVAL = 64, 4, 8
TRAINING = {"samples": SAMPLES, "batch_size": BATCH, "checkpoint_every_samples": INTERVAL}
PATIENCE_SECONDS = 200
AIMS = ("save", "later", "save", "save", "early", "later", "save", "later", "save", "save", "later", "save")
"""Where kills come: soon after the start, after a checkpoint at any update, or as a save begins."""
STARTS = {"name": "small", "training": {"samples": SAMPLES // 2}}
GOES_ON = {
    "name": "large",
    "data": {"transform": {"size_px": 32}},
    "training": {"samples": SAMPLES // 2, "optimizer": {"learning_rate": 0.002}},
}


@dataclass(frozen=True)
class Cell:
    """One recipe and one number of data workers."""

    denoiser: str
    storage: str
    feature: str
    workers: int

    @property
    def name(self) -> str:
        """Words that name it."""
        return f"{self.denoiser}, {self.storage}, {self.feature}, {self.workers} workers"


def cells(denoisers: Sequence[str]) -> list[Cell]:
    """All of them, in an order that is mixed, so that a torture that is cut short has seen of everything."""
    each = [Cell(*given) for given in product(denoisers, STORAGE, FEATURES, WORKERS)]
    random.Random(0).shuffle(each)
    return each


def features_of(feature: str, base: Path) -> dict[str, Any]:
    """What a feature changes in the recipe."""
    return {
        "accumulation": {"training": {**TRAINING, "micro_batch_size": 2}},
        "stages": {"training": TRAINING, "stages": [STARTS, GOES_ON]},
        "transfer": {"training": TRAINING, "init_from": {"source": str(base)}},
        "average": {"training": {**TRAINING, "ema": {"decay": 0.9, "warmup": False}}},
    }[feature]


def kill_cell(cell: Cell, write: Callable[[str, dict[str, Any]], str], out: Path, kills: int, seed: int) -> dict[str, Any]:
    """Train twice, in one go and killed so often, and compare; `write` writes a recipe and says where it lies.

    Returns:
        How many kills there were and where they came, the longest time until the folder was free again, and what was wrong.
    """
    short = f"{cell.denoiser}-{cell.storage}"
    base, whole, killed = out / f"base-{short}", out / f"whole-{short}-{cell.feature}", out / f"killed-{seed}"
    recipe = write(f"{short}-{cell.feature}", features_of(cell.feature, base))
    if cell.feature == "transfer" and not _ended_well(base):
        _in_one_go([write(f"base-{short}", {"training": {**TRAINING, "samples": 2 * INTERVAL}}), *_options(cell, base)])
    if not _ended_well(whole):
        _in_one_go([recipe, *_options(cell, whole)], fresh=cell.feature == "transfer")
    shutil.rmtree(killed, ignore_errors=True)  # of a torture that was cut short
    arguments = [recipe, *_options(cell, killed), f"data.workers={cell.workers}"]
    draw, count, wrong, free_after = random.Random(f"{cell.name} {seed}"), Counter[str](), list[str](), 0.0
    for number in range(kills):
        attempt = Attempt(arguments, killed)
        if not attempt.reaches(AIMS[(seed + number) % len(AIMS)], draw):
            count["ended before"] += 1
            wrong += attempt.ends()
            break
        seconds = attempt.kill()
        free_after = max(free_after, seconds)
        count.update({"kills": 1, "inside a save": bool(_temporary(killed)), "after a checkpoint": _saved(killed) > 0})
        count["most samples lost"] = max(count["most samples lost"], _seen(killed) - _saved(killed))
    wrong += Attempt(arguments, killed).ends()
    wrong += differing(whole, killed)
    wrong += [f"{seconds:.1f} s until the folder was free" for seconds in (free_after,) if seconds > 1]
    wrong += ["more than one interval lost"] if count["most samples lost"] > INTERVAL else []
    if not wrong:
        shutil.rmtree(killed)
    return {"ok": not wrong, **count, "free_after_seconds": round(free_after, 3), "wrong": wrong}


def differing(whole: Path, killed: Path) -> list[str]:
    """What is not equal in two runs, bit for bit, and the updates that are missing or twice."""
    wrong = []
    for part, other in zip(_parts(whole), _parts(killed), strict=True):
        one, two = _losses(part), _losses(other)
        wrong += [f"{other.name}: losses differ"] if one != two else []
        seen = [position for position, _ in two]
        wrong += [f"{other.name}: updates {seen}"] if seen != list(range(BATCH, seen[-1] + 1, BATCH)) else []
        wrong += [f"{other.name}: {name} differs" for name, known in _hashes(part).items() if _hashes(other)[name] != known]
    return wrong


class Attempt:
    """One process that trains until it is killed, or to its end."""

    def __init__(self, arguments: Sequence[str], run: Path) -> None:
        self.run, self.begun, self.lines = run, time.monotonic(), _lines(run)
        self.errors = run.with_name(f"{run.name}-errors.txt")
        self.process = _forked(["train", *arguments], self.errors)

    def reaches(self, aim: str, draw: random.Random) -> bool:
        """Wait for the moment of a kill; False where the training ended first."""
        if aim == "early":
            return self._waits(draw.uniform(0, 2))
        if not self._comes(lambda: _saved(self.run) > 0):
            return False
        if aim == "later":
            lines = self.lines + draw.randrange(2, 12)
            return self._comes(lambda: _lines(self.run) >= lines) and self._waits(draw.uniform(0, 0.05))
        if draw.random() < 0.5:
            known = _saved(self.run)
            if not self._comes(lambda: _saved(self.run) > known):
                return False
        return self._comes(lambda: _temporary(self.run)) and self._waits(draw.uniform(0, 0.012))

    def kill(self) -> float:
        """Kill it; returns after how many seconds its folder was free, whether or not its workers are gone."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        started = time.monotonic()
        while not _is_free(self.run) and time.monotonic() < started + 20:
            time.sleep(0.002)
        return time.monotonic() - started

    def ends(self) -> list[str]:
        """Wait for its end; what was wrong with it."""
        _, status = os.waitpid(self.process, 0)
        code = os.waitstatus_to_exitcode(status)
        return [] if code == 0 else [f"ended with {code}: {self.errors.read_text()[-300:]}"]

    def _waits(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        return self._comes(lambda: time.monotonic() >= until)

    def _comes(self, wanted: Callable[[], bool]) -> bool:
        while time.monotonic() < self.begun + PATIENCE_SECONDS:
            if os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            if wanted():
                return True
            time.sleep(0.002)
        raise RuntimeError(f"{self.run} did not get on")


def _ended_well(run: Path) -> bool:
    file = run / "exit.json"
    return file.is_file() and json.loads(file.read_text())["code"] == 0


def _options(cell: Cell, run: Path) -> list[str]:
    cache = [f"cache.path={run}-cache", "cache.shard_mb=0.02", "data.views=2"] if cell.storage == "cache" else []
    return [*cache, "--out", str(run)]


def _in_one_go(arguments: list[str], fresh: bool = False) -> None:
    run = Path(arguments[-1])
    shutil.rmtree(run, ignore_errors=True)  # of a torture that was cut short
    if fresh:
        command = [sys.executable, "-m", "open_ldm", "train", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    elif wrong := Attempt(arguments, run).ends():
        raise RuntimeError(wrong[0])


def _forked(arguments: list[str], errors: Path) -> int:
    """`ldm ARGUMENTS` in a fork of this process, which has computed nothing yet, so that no thread is lost."""
    process = os.fork()
    if process:
        return process
    open_ldm.runs.recorder.write_report = open_ldm.runs.stages.write_stages_report = _no_page
    with errors.open("wb") as file:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(file.fileno(), 2)
    try:
        ldm(arguments)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    os._exit(70)


def _no_page(*_: Any, **__: Any) -> None:
    pass


def _parts(run: Path) -> list[Path]:
    """The folders of the stages of a run, or its own; in stages that were not begun yet nothing is."""
    return sorted(path for path in (run / "stages").glob("*")) or [run]


def _checkpoints(run: Path) -> Iterator[str]:
    for part in _parts(run):
        with suppress(FileNotFoundError):
            yield from sorted(f"{part.name}/{path.name}" for path in (part / "checkpoints").iterdir())


def _saved(run: Path) -> int:
    """Samples that the newest checkpoint of the newest stage has seen; 0 before there is one. Cheap enough to ask often."""
    with suppress(FileNotFoundError):
        names = [path.name for path in (_parts(run)[-1] / "checkpoints").iterdir() if path.name.startswith(PREFIX)]
        return max(map(samples_seen_of, names), default=0)
    return 0


def _seen(run: Path) -> int:
    """Samples seen by the newest stage, whether they are saved or not."""
    events = effective_events(read_events(_parts(run)[-1] / "events.jsonl"))
    return max((event.samples_seen for event in events), default=0)


def _temporary(run: Path) -> bool:
    """Whether there is a save that is not done."""
    return any("/.tmp-" in name for name in _checkpoints(run))


def _lines(run: Path) -> int:
    """Lines of the event logs."""
    logs = [part / "events.jsonl" for part in _parts(run)]
    return sum(log.read_bytes().count(b"\n") for log in logs if log.is_file())


def _losses(run: Path) -> list[tuple[int, float | None]]:
    events = effective_events(read_events(run / "events.jsonl"))
    return [(event.samples_seen, event.number("loss")) for event in events if event.name == "train"]


def _hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of the newest checkpoint, which must be the last one."""
    names = CheckpointFolder(run / "checkpoints").names()
    described = json.loads((run / "checkpoints" / names[0] / "MANIFEST.json").read_text())["files"]
    return {"position": names[0], **{name: each["sha256"] for name, each in described.items()}}


def _is_free(run: Path) -> bool:
    for lock in (path / ".lock" for path in (run, *_parts(run)) if (path / ".lock").is_file()):
        handle = os.open(lock, os.O_RDWR)
        try:
            if not lock_file(handle, wait=False):
                return False
        finally:
            os.close(handle)
    return True
