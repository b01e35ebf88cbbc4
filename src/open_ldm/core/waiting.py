"""How torch's threads wait for one another on a CPU: briefly awake, then asleep. It is set before torch is loaded, or too late.

A team of threads meets at a barrier behind every operation. GNU's OpenMP, which torch's wheels for Linux bring, has whoever
comes first spin for up to 300,000 rounds, which is milliseconds. Where another program has one of the cores, the thread that
is waited for is often the one without a core, and the one that spins keeps it from getting another. LLVM's and Intel's
OpenMP, of other builds, spin for 200 ms.
"""

import os
import sys

SPIN_COUNT = "2000"
"""Rounds of GNU's OpenMP, some ten microseconds."""
BLOCK_TIME = "1"
"""Milliseconds of LLVM's and Intel's, the shortest but none; its effect was not measured."""
_SAID_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

is_said = any(os.environ.get(name) for name in _SAID_BY_USER)
"""Whether the user, or the `ldm` that started this process, had said how threads wait when this one began."""
is_late = "torch" in sys.modules and not is_said
"""Whether torch was loaded before open_ldm, so that its threads spin as long as they do by default."""


def wait_briefly() -> None:
    """Set the environment variables that OpenMP reads when torch loads it; where the user has set one, all stay as they are."""
    if not is_said:
        os.environ["GOMP_SPINCOUNT"], os.environ["KMP_BLOCKTIME"] = SPIN_COUNT, BLOCK_TIME
