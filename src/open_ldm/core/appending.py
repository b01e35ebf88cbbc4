"""Appending lines to a file whose disk may be full for a while: what does not fit waits, and is written once it does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from open_ldm.core.errors import DiskError, is_full
from open_ldm.core.files import open_handle

_MOST_WAITING_BYTES = 16 << 20


class LineFile:
    """An open file to which lines are appended, each by one `write`, so that a killed process loses at most that line.

    A file that ends in a half-written line gets a line break first, so that the following lines stay readable.

    Raises:
        DiskError: The disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = b""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_handle(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.lseek(self._file, 0, os.SEEK_END)
            if size:
                os.lseek(self._file, size - 1, os.SEEK_SET)
                if os.read(self._file, 1) != b"\n":
                    self.append(b"\n")
        except OSError as error:
            raise DiskError.of(f"cannot write {path}", error) from error

    def append(self, line: bytes) -> None:
        """Append a line after all that still wait; on a full disk it waits with them.

        Raises:
            DiskError: The disk refuses for another reason.
            DiskFullError: Too much is waiting.
        """
        self._waiting += line
        self._write()
        if len(self._waiting) > _MOST_WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what still waits. Raises DiskFullError when that does not fit."""
        while before := len(self._waiting):
            self._write()
            if len(self._waiting) == before:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise DiskError.of(f"cannot write {self.path}", full, fix="free some space")

    def _write(self) -> None:
        """Write as much as fits."""
        if not self._waiting:
            return
        try:
            self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if not is_full(error):
                raise DiskError.of(f"cannot write {self.path}", error, fix="free some space") from error

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
