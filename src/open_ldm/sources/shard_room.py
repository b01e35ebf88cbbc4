"""Room for the shards that are fetched: a bound on what the folder of a machine holds, over all of its processes."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from open_ldm.core.errors import DiskFullError
from open_ldm.core.files import remove_temporary_files, require_space, temporary_files

_LOOK_SECONDS, _MOST_SECONDS = 0.1, 1800


class ShardRoom:
    """Keeps fetched shards, and those that are being fetched, below a bound.

    A shard that a process has open when it is removed keeps its space until that process closes it.

    Attributes:
        most_bytes: The bound.

    Args:
        base: Folder of all folders of fetched shards; `locks` lies in it.
    """

    def __init__(self, base: Path, most_bytes: float) -> None:
        self.most_bytes = most_bytes
        self._base = base

    def reserve(self, file: BinaryIO, size: int) -> None:
        """Give a temporary file its size once that fits, so that it counts from here on for every process.

        The shards that were used longest ago are removed for it. Where others are fetching so much that even this leaves no
        room, theirs are waited for: they end, and may be removed then.

        Args:
            file: Where a shard will be written.
            size: Its length in bytes, at most the bound.

        Raises:
            DiskFullError: The disk has less than that free, or others leave no room for half an hour.
        """
        until = time.monotonic() + _MOST_SECONDS
        while not self._reserved(file, size):
            if time.monotonic() > until:
                raise DiskFullError(
                    f"{self._base} had no room for {size / 1e9:.3g} GB for {_MOST_SECONDS // 60} min",
                    needed="an end of what other processes fetch into it",
                    fix="end them, or choose a larger remote.gigabytes",
                )
            time.sleep(_LOOK_SECONDS)

    def _reserved(self, file: BinaryIO, size: int) -> bool:
        with FileLock(self._base / "locks" / "room.lock"):
            coming = 0
            for folder in self._base.iterdir():
                remove_temporary_files(folder)
                coming += sum(used[1] for used in map(_used, temporary_files(folder)) if used is not None)
            kept = sorted(filter(None, map(_used, self._base.glob("*/*.tar"))))
            total = size + coming + sum(length for _, length, _ in kept)
            for _, length, path in kept:
                if total <= self.most_bytes:
                    break
                with suppress(OSError):  # Windows removes no file that is open
                    path.unlink()
                    total -= length
            if total > self.most_bytes and coming:
                return False
            require_space(self._base, size)
            file.truncate(size)
            return True


def _used(shard: Path) -> tuple[int, int, Path] | None:
    """When a file was last used, its size, and its path; None for one that has just been removed."""
    try:
        status = shard.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, shard
