"""How many threads torch computes with on a CPU: one for each core that this process may use, and in a run what it began with.

The number decides in which order sums are added, and so the last bits. It depends on what the process may use and never on the
load of the moment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from open_ldm.core.waiting import is_late

_OWN = "LDM_THREADS"
"""Environment variable that holds the number of threads which one `ldm` chose for another; the user's own choice has none."""
_LATE = "torch was imported before open_ldm: beside other programs its threads will be slow; import open_ldm first"
_GIVEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Changed:
    """What this process had of threads before it set a number of its own, and that number."""

    before: int = 0
    set: int = 0


_changed = _Changed()


def _cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Return how many cores this process may use: those it may run on, or fewer where a cgroup limits its time on them."""
    cores, limit = _cores(), cgroup_cores()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Read how many cores' time the cgroups of this process have, as Docker's --cpus and Kubernetes' limits set it.

    Args:
        root: Where cgroups are mounted.
        own: Names the cgroups of this process.

    Returns:
        The least of the limits of its group and those above, of version 2 and 1; None where there is none.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines() if line.count(":") >= 2]
    except OSError:
        return None
    limits = []
    for _, controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers and (root / controllers).is_dir() else root / "cpu" if controllers else root
        inside = Path(path.lstrip("/"))  # in a container it may not be there: its group is the top then
        for folder in (top, *(top / part for part in (inside, *inside.parents))):
            limits.append(_limit_of_v1(folder) if controllers else _limit_of_v2(folder))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_of_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _limit_of_v1(folder: Path) -> float | None:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def given_threads() -> bool:
    """Return whether the user's environment says how many threads there are."""
    return any(os.environ.get(name) not in (None, "", os.environ.get(_OWN)) for name in _GIVEN)


def environment_of(threads: int) -> dict[str, str]:
    """Return the environment variables that give a process which `ldm` starts its threads; none where the user gave them."""
    return {} if given_threads() else {"OMP_NUM_THREADS": str(threads), _OWN: str(threads)}


def fit_threads() -> None:
    """Let torch have no more threads than this process has cores, and as many as before where a run had another number."""
    if not given_threads():
        _set(min(_untouched(), usable_cores()))


def keep_threads(saved: Mapping[str, str], device: torch.device) -> tuple[str, ...]:
    """Let torch have as many threads as a run began with, where this process has so many cores.

    Args:
        saved: The fingerprint that the run goes on from; empty for a new one. Its number stands wherever there are so many
            cores, also where a cgroup limits their time: a run may have begun before that counted.
        device: Where it trains.

    Returns:
        What changed, and on a CPU whether threads wait awake, a line each.
    """
    began, now = saved.get("threads", ""), torch.get_num_threads()
    said = [_LATE] if is_late and device.type == "cpu" and now > 1 else []
    if not given_threads() and began.isdigit() and 0 < int(began) <= _cores() and int(began) != now:
        _set(int(began))
        said.append(f"{began} threads, with which this run began; {now} would be used here, and OMP_NUM_THREADS=N gives others")
    return tuple(said)


def _untouched() -> int:
    """The number that torch, or whoever uses it in this process, had chosen."""
    now = torch.get_num_threads()
    return _changed.before if now == _changed.set else now


def _set(threads: int) -> None:
    if threads != torch.get_num_threads():
        _changed.before, _changed.set = _untouched(), threads
        torch.set_num_threads(threads)
