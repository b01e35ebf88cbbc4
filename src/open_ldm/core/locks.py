"""Locks between processes, held through the handle of an open file. A lock ends with its process, however that ends.

POSIX (Linux, macOS) has two kinds. A lock on a whole file (flock) belongs to the open file and is inherited by a forked
child. A lock on one byte (lockf) belongs to the process and is not inherited. Windows has one kind, on bytes: it belongs to
the open file, and nobody else can read or write a locked byte. A whole file is therefore locked there at one byte far behind
its content.

A lock of a whole file that a forked child inherits would outlive the process that took it: `keep_from_children` prevents that.

Where Python has neither `fcntl` nor `msvcrt`, nothing is locked: only one process at a time may then write to a folder.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_BEHIND_THE_CONTENT = 1 << 30
_kept: set[int] = set()
"""Handles that a forked child closes at once."""
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


def keep_from_children(handle: int) -> None:
    """Let every process that is forked from now on close this handle at once, so that its lock ends with this process alone.

    The handle must be closed by `close_kept`.
    """
    _kept.add(handle)


def close_kept(handle: int) -> None:
    """Close a handle of `keep_from_children`, which ends its lock."""
    _kept.discard(handle)
    os.close(handle)


def _close_inherited() -> None:
    """In a forked child: close what belongs to the parent. Closing a copy of a locked handle leaves the lock as it is."""
    for handle in _kept:
        with suppress(OSError):
            os.close(handle)
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def process_ended(process: int) -> bool:
    """Return whether a process of this machine has ended, or only its entry is left; a number that is none counts as ended."""
    if process <= 0:
        return True
    if not POSIX:
        return False  # asking about a process by signal 0 would end it there
    with suppress(OSError, IndexError):
        if (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # it is someone else's, so it is there
    return False


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
