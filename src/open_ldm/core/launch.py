"""How this process was started: alone, by torchrun, or as one of several tasks of Slurm."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import ConfigError

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
CODES = "LDM_EXIT_CODES"
"""Environment variable that names a folder where each process leaves its exit code, because torchrun's own is always 1."""
TORCHRUN_OPTIONS = ("--nproc-per-node", "--nproc_per_node", "--nnodes", "--standalone", "--node-rank", "--rdzv-endpoint")
"""Options of torchrun that people give to `ldm`, which has none of them."""
HOW_TO_LAUNCH = "torchrun --nproc-per-node N -m open_ldm train RECIPE, or ldm train RECIPE --gpus N"


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were started together.

    Attributes:
        rank: Number of this process, 0 to size - 1.
        size: Number of processes.
        address: Host on which the process of rank 0, or torchrun's agent, keeps the store by which all find each other.
        port: Of that store.
    """

    rank: int = 0
    size: int = 1
    address: str = ""
    port: int = 0

    def export(self) -> None:
        """Set the environment variables that torch reads."""
        given = (str(self.rank), str(self.size), self.address, str(self.port))
        os.environ.update(dict(zip(_TORCHRUN, given, strict=True)))


def find_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """Find out with which processes this one was started.

    torchrun's variables count first, then those of a step of Slurm (`srun`).

    Args:
        environment: Environment variables; None for those of this process.

    Returns:
        The place of this process; a size of 1 where it was started alone.

    Raises:
        ConfigError: Several processes were meant and this one cannot find the others, so that each would work alone.
    """
    seen = os.environ if environment is None else environment
    if int(seen.get("WORLD_SIZE") or 1) > 1:
        if missing := [name for name in _TORCHRUN if not seen.get(name)]:
            raise ConfigError(
                f"WORLD_SIZE={seen['WORLD_SIZE']}, but {', '.join(missing)} is not set",
                needed=f"all of {', '.join(_TORCHRUN)}, which torchrun sets",
                fix=HOW_TO_LAUNCH,
            )
        return Launch(int(seen["RANK"]), int(seen["WORLD_SIZE"]), seen["MASTER_ADDR"], int(seen["MASTER_PORT"]))
    if "WORLD_SIZE" in seen:
        return Launch()  # torchrun with one process, whatever Slurm says
    return _of_slurm(seen)


def local_rank(environment: Mapping[str, str] | None = None) -> int | None:
    """Return the number of this process among those of its machine; None where it was started alone."""
    seen = os.environ if environment is None else environment
    if "LOCAL_RANK" in seen:
        return int(seen["LOCAL_RANK"])
    return int(seen.get("SLURM_LOCALID", "0")) if _step_tasks(seen) > 1 else None


def processes_here(environment: Mapping[str, str] | None = None) -> int:
    """Return how many processes of this launch run on this machine; 1 where that is not said."""
    seen = os.environ if environment is None else environment
    if (told := seen.get("LOCAL_WORLD_SIZE", "")).isdigit():
        return max(1, int(told))
    first = re.match(r"\d+", seen.get("SLURM_TASKS_PER_NODE", "") if _step_tasks(seen) > 1 else "")
    return max(1, int(first[0])) if first else 1


def leads() -> bool:
    """Return whether this process is the one of its launch that prints results."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _step_tasks(seen: Mapping[str, str]) -> int:
    """Number of tasks of the step that this process belongs to; 0 outside `srun`."""
    return int(seen.get("SLURM_STEP_NUM_TASKS") or 0) if "SLURM_PROCID" in seen else 0


def _of_slurm(seen: Mapping[str, str]) -> Launch:
    tasks = int(seen.get("SLURM_NTASKS") or seen.get("SLURM_NPROCS") or 1)
    size = _step_tasks(seen)
    if size == 1 or max(size, tasks) == 1:
        return Launch()
    nodes = seen.get("SLURM_STEP_NODELIST") or seen.get("SLURM_JOB_NODELIST") or seen.get("SLURM_NODELIST", "")
    address = seen.get("MASTER_ADDR") or first_host(nodes)
    if not size:
        raise ConfigError(
            f"Slurm gave this job {tasks} tasks, but this command was started once, without srun",
            needed="one process for each task",
            fix="put srun in front of the command, or ask for --ntasks=1",
        )
    if not address:
        raise ConfigError(
            f"Slurm started {size} tasks, but SLURM_STEP_NODELIST and SLURM_JOB_NODELIST are not set",
            needed="a host on which the processes meet",
            fix="set MASTER_ADDR to the host of task 0",
        )
    return Launch(int(seen["SLURM_PROCID"]), size, address, int(seen.get("MASTER_PORT") or _port(seen)))


def launched() -> bool:
    """Return whether `ldm train --gpus` or `--processes` started this process, with the words it was given itself."""
    return CODES in os.environ and local_rank() is not None


def leave_code(code: int) -> None:
    """Leave the exit code of this process where `ldm train --gpus` looks for it, if that started it."""
    if folder := os.environ.get(CODES):
        with suppress(OSError):
            (Path(folder) / os.environ.get("RANK", "0")).write_text(str(code))


def process_state(pid: int) -> str:
    """Linux's letter for what a process of this machine does; '' where there is none, '?' on other systems."""
    if not Path("/proc/self/stat").exists():
        return "?"
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def first_host(nodes: str) -> str:
    """Return the first host of a list as Slurm writes it: 'gpu[03-05,9],login' gives 'gpu03'."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group() if first else "")


def _port(seen: Mapping[str, str]) -> int:
    """A port that all tasks of a step agree on, and that steps on one machine are unlikely to share."""
    job, step = (int(re.sub(r"\D", "", seen.get(name, "")) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 10_000 + (job * 31 + step) % 20_000
