"""Saying what a slow start, or a pause of a training, waits for."""

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
        say: Shows a line; it is called from another thread. None prints to standard error.
    """

    def __init__(self, *, silent: bool = False, seconds: float = _SECONDS, say: Callable[[str], object] | None = None) -> None:
        self.silent, self.seconds, self._show = silent, seconds, say or _print

    def __call__(self, what: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return function(*args, **kwargs). `what` is said of it, such as "reading 236 pictures"."""
        timer = threading.Timer(self.seconds, self._show, [f"{what} ..."])
        timer.daemon = True
        if not self.silent and sys.stderr.isatty():
            timer.start()
        try:
            return function(*args, **kwargs)
        finally:
            timer.cancel()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
