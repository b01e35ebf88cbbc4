"""How many cores other programs of this machine use: timings beside them mean little."""

from __future__ import annotations

import os
import time
from pathlib import Path

MANY = 0.5
"""Cores above which a timing is marked."""

_STAT = Path("/proc/stat")
_IDLE = (3, 4)
"""Idle, and waiting for a disk."""
_FIRST_FIELDS = 8
"""Those that do not count again what others hold."""


def cores_of_others(seconds: float = 1.0) -> float:
    """Return how many cores are busy, of all programs but this one, while this one sleeps; 0 where the system does not tell.

    Args:
        seconds: For how long to look.
    """
    before, own = _busy_ticks(), time.process_time()
    if before is None:
        return 0.0
    time.sleep(seconds)
    after = _busy_ticks()
    ticks = 0 if after is None else after - before
    return max(0.0, (ticks / os.sysconf("SC_CLK_TCK") - (time.process_time() - own)) / seconds)


def _busy_ticks() -> int | None:
    try:
        fields = [int(count) for count in _STAT.read_text().split("\n", 1)[0].split()[1 : 1 + _FIRST_FIELDS]]
    except (OSError, ValueError):
        return None
    return sum(count for place, count in enumerate(fields) if place not in _IDLE)
