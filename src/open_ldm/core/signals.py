"""Stop signals: the first one requests a save and a stop, a second one within ten seconds ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any

from open_ldm.core.errors import StoppedError

_WATCHED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))
_SECOND_WITHIN_SECONDS = 10.0
_PROCESS_LIVES_ON: ContextVar[bool] = ContextVar("process_lives_on", default=False)


@contextmanager
def process_lives_on() -> Iterator[None]:
    """Make a second SIGINT raise KeyboardInterrupt instead of ending the process, which may be a notebook's."""
    token = _PROCESS_LIVES_ON.set(True)
    try:
        yield
    finally:
        _PROCESS_LIVES_ON.reset(token)


@contextmanager
def uncut() -> Iterator[None]:
    """Context manager in which a launcher's SIGTERM does not cut off what this process says of its end."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stopped_by(name: str) -> StoppedError:
    """Return the error that work ends with after the signal of this name."""
    return StoppedError(f"stopped by {name}", fix="run the same command again")


class StopRequest:
    """Context manager that turns SIGTERM, SIGINT, SIGUSR1 (POSIX) and SIGBREAK (Windows) into the signal's `name`.

    Poll the name between updates; it is None until a signal comes. Outside the main thread, where Python allows no signal
    handlers, nothing is watched.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _WATCHED:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_if_requested(self) -> None:
        """Raise StoppedError once a signal has come."""
        if self.name is not None:
            raise stopped_by(self.name)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.name is not None and now - self._at < _SECOND_WITHIN_SECONDS:
            if number == signal.SIGINT and _PROCESS_LIVES_ON.get():
                raise KeyboardInterrupt
            os._exit(130 if number == signal.SIGINT else 143)
        self.name, self._at = signal.Signals(number).name, now
