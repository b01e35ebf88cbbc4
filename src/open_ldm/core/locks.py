"""Locks between processes, held through the handle of an open file. A lock ends with its process, however that ends.

POSIX (Linux, macOS) has two kinds. A lock on a whole file (flock) belongs to the open file and is inherited by a forked
child. A lock on one byte (lockf) belongs to the process and is not inherited. Windows has one kind, on bytes: it belongs to
the open file, and nobody else can read or write a locked byte. A whole file is therefore locked there at one byte far behind
its content.

Where Python has neither `fcntl` nor `msvcrt`, nothing is locked: only one process at a time may then write to a folder.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable
from typing import Any

_BEHIND_THE_CONTENT = 1 << 30
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last one is Windows' after ten seconds


def optional_module(name: str) -> Any:
    """Import a module of the standard library; return None on systems that lack it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = optional_module("fcntl"), optional_module("msvcrt")
POSIX = _fcntl is not None
"""Whether this is a POSIX system, where a file that is open can be locked, renamed and removed."""


def lock_file(handle: int, *, wait: bool) -> bool:
    """Lock the whole file behind an open handle until the handle is closed.

    Returns:
        Whether this process has the lock now. It is False only without `wait`, when another process holds the lock.

    Raises:
        OSError: The disk does not support locks.
    """
    if not POSIX:
        return lock_byte(handle, _BEHIND_THE_CONTENT, wait=wait)
    return _taken(lambda: _fcntl.flock(handle, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB)), wait)


def lock_byte(handle: int, position: int, *, wait: bool) -> bool:
    """Lock one byte of a file, which need not exist, until `unlock_byte`. A process must open such a file only once.

    Returns:
        As `lock_file`.

    Raises:
        OSError: As `lock_file`.
    """
    if POSIX:
        return _taken(lambda: _fcntl.lockf(handle, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB), 1, position), wait)
    if _msvcrt is not None:
        while not _taken(lambda: _on_windows(handle, position, _msvcrt.LK_LOCK if wait else _msvcrt.LK_NBLCK), wait=False):
            if not wait:
                return False
    return True


def unlock_byte(handle: int, position: int) -> None:
    """Give up a lock of `lock_byte`."""
    if POSIX:
        _fcntl.lockf(handle, _fcntl.LOCK_UN, 1, position)
    elif _msvcrt is not None:
        _on_windows(handle, position, _msvcrt.LK_UNLCK)


def _taken(lock: Callable[[], object], wait: bool) -> bool:
    try:
        lock()
    except OSError as error:
        if wait or error.errno not in _HELD_BY_ANOTHER:
            raise
        return False
    return True


def _on_windows(handle: int, position: int, mode: int) -> None:
    before = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, position, os.SEEK_SET)  # Windows locks from the position of the handle
    try:
        _msvcrt.locking(handle, mode, 1)
    finally:
        os.lseek(handle, before, os.SEEK_SET)
