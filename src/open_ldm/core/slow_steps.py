"""Saying what a slow start waits for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_SECONDS = 2.0


class SlowSteps:
    """Calls functions; what takes longer than a moment is named on the terminal while it goes on.

    Elsewhere nothing is said: a program that reads standard error finds there what it found on a faster machine.

    Args:
        silent: Nothing is said.
        seconds: The moment.
    """

    def __init__(self, *, silent: bool = False, seconds: float = _SECONDS) -> None:
        self.silent, self.seconds = silent, seconds

    def __call__(self, what: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return function(*args, **kwargs). `what` is said of it, such as "reading 236 pictures"."""
        timer = threading.Timer(self.seconds, self._say, [what])
        timer.daemon = True
        if not self.silent and sys.stderr.isatty():
            timer.start()
        try:
            return function(*args, **kwargs)
        finally:
            timer.cancel()

    def _say(self, what: str) -> None:
        print(f"{what} ...", file=sys.stderr, flush=True)
