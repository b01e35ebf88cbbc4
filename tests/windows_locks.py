"""A stand-in for Windows' `msvcrt`: locks on bytes that belong to the open file, made of Linux's locks of that kind.

It does not stop others from reading and writing a locked byte, which Windows does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from open_ldm.core import locks

LK_LOCK, LK_NBLCK, LK_UNLCK = 1, 2, 0
_TRIES, _PAUSE_SECONDS = 3, 0.02  # Windows tries ten times in ten seconds


def pretend() -> None:
    """From now on this process is on a system with `msvcrt` and without `fcntl`. To be called before files are imported."""
    locks.POSIX = False
    locks._msvcrt = __import__(__name__, fromlist=["locking"])


def locking(handle: int, mode: int, size: int) -> None:
    """As Windows has it: `size` bytes from where the handle stands."""
    kind = fcntl.F_UNLCK if mode == LK_UNLCK else fcntl.F_WRLCK
    request = struct.pack("hhqqi", kind, os.SEEK_CUR, 0, size, 0)
    for attempt in range(_TRIES if mode == LK_LOCK else 1):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
    raise OSError(errno.EDEADLK if mode == LK_LOCK else errno.EACCES, "locked")
