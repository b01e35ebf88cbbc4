"""Many short reads of one file, mostly in the order of their places."""

from __future__ import annotations

from open_ldm.core.files import read_at

_LEAST, _MOST = 2048, 1 << 16


class ReadAhead:
    """Reads bytes of a file; short reads that follow each other closely come from one read of the disk.

    After a jump 2 kB are read, so that large contents between short ones are left out; each read that goes on where the one
    before ended doubles that, up to 64 kB.

    Args:
        handle: Of the file, open for reading.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._buffer, self._start, self._ahead = b"", 0, _LEAST

    def read(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes from `offset`; fewer at the end of the file alone."""
        at = offset - self._start
        if 0 <= at <= len(self._buffer) - size:
            return self._buffer[at : at + size]
        goes_on = 0 <= at <= len(self._buffer) + _LEAST
        self._ahead = min(2 * self._ahead, _MOST) if goes_on else _LEAST
        if size >= self._ahead:
            return read_at(self._handle, size, offset)
        self._buffer, self._start = read_at(self._handle, self._ahead, offset), offset
        return self._buffer[:size]
