"""Kills and stops the processes of a run of several, and looks at what becomes of it. For `torture.py ranks`; Linux only."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.events import effective_events, read_events
from open_ldm.core.launch import process_state
from torture_worker import hashes_of

PATIENCE_SECONDS = 3000
LONGEST_SAMPLES, LONGEST_SECONDS = 100, 0.3
"""A kill comes after so many samples and then so many seconds at most; every other one waits for a save to begin, too."""


def kill(recipe: Path, mode: str, ranks: int, kills: int, out: Path, seed: int) -> dict[str, Any]:
    """Train twice: in one go, and with a process killed at random moments, which torchrun starts again.

    Returns:
        How many kills there were, how many of them within a save, the most samples that were lost to one of these and to one
        of the others, and which losses and groups of last tensors differ from the run in one go.
    """
    whole, killed = out / f"whole-{mode}-{kills}", out / f"killed-{mode}-{seed}"
    shutil.rmtree(killed, ignore_errors=True)  # of a torture that was cut short
    changes = [f"parallel.kind={mode}", "parallel.timeout_seconds=120"]
    arguments = [str(recipe), *changes]
    if not _ended_well(whole):
        shutil.rmtree(whole, ignore_errors=True)
        command = _launched(ranks, 0, [*arguments, "--out", str(whole)])
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    command = _launched(ranks, kills, [*arguments, "--out", str(killed)])
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    numbers, inside, until = random.Random(seed), list[bool](), time.monotonic() + PATIENCE_SECONDS
    while len(inside) < kills and _goes_on(killed, len(inside), launcher, until):
        mark = _reached(killed) + numbers.uniform(0, LONGEST_SAMPLES)
        while launcher.poll() is None and _reached(killed) < mark:
            time.sleep(0.02)
        time.sleep(numbers.uniform(0, LONGEST_SECONDS))
        while len(inside) % 2 and launcher.poll() is None and not _saving(killed):
            time.sleep(0.001)
        pids = _workers(launcher.pid)
        if launcher.poll() is not None or len(pids) < ranks:
            break
        os.kill(numbers.choice(pids), signal.SIGKILL)
        inside.append(_saving(killed))  # no process can end that save any more
    _, errors = launcher.communicate(timeout=PATIENCE_SECONDS)
    lost = _lost(killed)
    return {
        "kills": len(inside),
        "inside_saves": sum(inside),
        "restarts": len(lost),
        "most_lost_inside": max((each for each, saving in zip(lost, inside, strict=False) if saving), default=0),
        "most_lost_outside": max((each for each, saving in zip(lost, inside, strict=False) if not saving), default=0),
        "losses": len(_losses(whole)),
        "differing": _differing(whole, killed),
        "code": launcher.returncode,
        "last_words": errors[-300:] if launcher.returncode else "",
    }


def _ended_well(run: Path) -> bool:
    return (run / "exit.json").is_file() and json.loads((run / "exit.json").read_text())["code"] == 0


def _reached(run: Path) -> int:
    return max((event.samples_seen for event in effective_events(read_events(run / "events.jsonl"))), default=0)


def _saving(run: Path) -> bool:
    return bool(list((run / "checkpoints").glob(".tmp-*")))


def _lost(run: Path) -> list[int]:
    """Samples that had to be seen again, after each start but the first."""
    found, reached = [], 0
    for number, event in enumerate(read_events(run / "events.jsonl")):
        if event.name in ("start", "resume"):
            found += [reached - event.samples_seen] if number else []
            reached = event.samples_seen
        reached = max(reached, event.samples_seen)
    return found


def stop(recipe: Path, mode: str, rank: int, out: Path) -> dict[str, Any]:
    """Stop one process by SIGSTOP: after how many seconds the others end, and with which line."""
    run, limit = out / f"stopped-{mode}-{rank}", 5
    command = [sys.executable, "-m", "open_ldm", "train", str(recipe), f"parallel.kind={mode}"]
    command += [f"parallel.timeout_seconds={limit}", "--out", str(run), "--processes", "2"]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + PATIENCE_SECONDS
    assert _goes_on(run, 0, launcher, until)
    pids = [pid for child in _children(launcher.pid) for pid in (_children(child) or [child]) if _rank(pid) is not None]
    stopped = next(pid for pid in pids if _rank(pid) == rank)
    os.kill(stopped, signal.SIGSTOP)
    started, exit_file = time.monotonic(), run / "exit.json"
    while not exit_file.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    seconds = time.monotonic() - started
    os.kill(stopped, signal.SIGKILL)
    launcher.communicate(timeout=PATIENCE_SECONDS)
    reason = json.loads(exit_file.read_text())["reason"]
    return {"seconds": seconds, "limit": limit, "reason": reason, "code": launcher.returncode}


def _launched(ranks: int, restarts: int, arguments: Sequence[str]) -> list[str]:
    launcher = Path(__file__).with_name("torture_launch.py")
    return [sys.executable, str(launcher), str(ranks), str(restarts), "train", *arguments]


def _goes_on(run: Path, resumes: int, launcher: subprocess.Popen[str], until: float) -> bool:
    """Wait until the run has made an update after it was resumed so many times; False where it has ended."""
    while time.monotonic() < until:
        names = [event.name for event in read_events(run / "events.jsonl")] if (run / "events.jsonl").is_file() else []
        starts = [index for index, name in enumerate(names) if name in ("start", "resume")]
        if len(starts) > resumes and "train" in names[starts[-1] :]:
            return True
        if launcher.poll() is not None:
            return False
        time.sleep(0.05)
    return False


def _differing(whole: Path, killed: Path) -> list[str]:
    """Losses and tensors that are not equal, bit for bit."""
    one, other = _losses(whole), _losses(killed)
    found = [f"loss at {seen}" for seen in sorted({*one, *other}) if one.get(seen) != other.get(seen)]
    states = []
    for run in (whole, killed):
        newest, _ = CheckpointFolder(run / "checkpoints").newest()
        files = {} if newest is None else newest.files
        states.append({group: hashes_of(dict(tensors)) for group, tensors in files.items()})
    return found + [group for group in states[0] if states[0][group] != states[1].get(group)]


def _losses(run: Path) -> dict[int, float | None]:
    events = effective_events(read_events(run / "events.jsonl"))
    return {event.samples_seen: event.number("loss") for event in events if event.name == "train"}


def _workers(launcher: int) -> list[int]:
    """The processes that train: what the server of the launcher has forked."""
    forked = [pid for child in _children(launcher) for pid in _children(child)]
    return [pid for pid in forked if process_state(pid) not in ("Z", "X", "")]


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _rank(pid: int) -> int | None:
    try:
        given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((int(each.removeprefix(b"RANK=")) for each in given if each.startswith(b"RANK=")), None)
