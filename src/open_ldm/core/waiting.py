"""How torch's threads wait for one another on a CPU: awake, then asleep. It is set before torch is loaded, or too late.

A team of threads meets at a barrier behind every operation. GNU's OpenMP, which torch's wheels for Linux bring, has whoever
comes first spin for up to 300,000 rounds, which is milliseconds. Where another program has one of the cores, the thread that
is waited for is often the one without a core, and the one that spins keeps it from getting another. Whoever sleeps at once is
woken at every operation, which costs a training on a quiet machine a fifth of its speed. So the wait is short only where other
programs run when this one begins. LLVM's and Intel's OpenMP, of other builds, spin for 200 ms.
"""

import os
import sys
import time

SPINS_ALONE, SPINS_SHARED = "20000", "2000"
"""Rounds of GNU's OpenMP where a core is free for each thread, and where other programs run."""
BLOCK_TIME = "1"
"""Milliseconds of LLVM's and Intel's, the shortest but none; its effect was not measured."""
_SAID_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
_LOOKS, _BETWEEN_LOOKS = 5, 0.004
_LOAD = "/proc/loadavg"

is_said = any(os.environ.get(name) for name in _SAID_BY_USER)
"""Whether the user, or the `ldm` that started this process, had said how threads wait when this one began."""
is_late = "torch" in sys.modules and not is_said
"""Whether torch was loaded before open_ldm, so that its threads spin as long as they do by default."""


def wait_briefly() -> None:
    """Set the environment variables that OpenMP reads when torch loads it; where the user has set one, all stay as they are."""
    if not is_said:
        os.environ["GOMP_SPINCOUNT"] = SPINS_SHARED if is_shared(running_beside()) else SPINS_ALONE
        os.environ["KMP_BLOCKTIME"] = BLOCK_TIME


def is_shared(others: int) -> bool:
    """Return whether this process's threads, one for each core that it may use or fewer, would share one with `others`."""
    cores, told = os.cpu_count() or 1, os.environ.get("OMP_NUM_THREADS", "")
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    own = min(own, int(told)) if told.isdigit() and int(told) else own
    return others + own > cores


def running_beside() -> int:
    """Count the threads of other programs that want a core all the time, for 20 ms; 0 where the system does not tell."""
    fewest = None
    for look in range(_LOOKS):
        time.sleep(_BETWEEN_LOOKS if look else 0)
        try:
            with open(_LOAD, encoding="ascii") as file:  # noqa: PTH123 (pathlib would cost an import)
                running = int(file.read().split()[3].partition("/")[0]) - 1  # one of them is this one
        except (OSError, ValueError, IndexError):
            return 0
        fewest = running if fewest is None else min(fewest, running)
        if fewest <= 0:
            return 0
    return fewest or 0
