"""Writing files whole or not at all (docs/reliability.md section 3.5), and reading their bytes and hashes."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from open_ldm.core.errors import DiskError, DiskFullError
from open_ldm.core.locks import POSIX, lock_file
from open_ldm.core.plain_data import parse_json, to_json

_TEMPORARY = ".part"
_SPARE_BYTES = 8 << 20
_ABANDONED_SECONDS = 3600.0
_ONE_READER = threading.Lock()


def open_handle(path: Path, flags: int) -> int:
    """Open a file by `os.open` without changing its bytes; Windows otherwise changes line ends. A new one obeys the umask."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)


def read_at(handle: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes from `offset`, whatever the position of the handle. Threads may share the handle."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with _ONE_READER:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)


class StoredPart(io.RawIOBase):
    """A part of a file as a stream of its own that reads only what is asked for.

    Args:
        read: Reads bytes of the file: (offset, size).
        offset: Where the part begins.
        size: Its length.
    """

    def __init__(self, read: Callable[[int, int], bytes], offset: int, size: int) -> None:
        self._read, self._start, self._size, self._at = read, offset, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, counted from the start of the part."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; return the number of bytes, 0 at the end of the part."""
        count = min(len(buffer), max(0, self._size - self._at))
        content = self._read(self._start + self._at, count) if count else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk. Windows flushes only files, through handles that may write."""
    if not POSIX and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if POSIX else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def relative_path_hint(path: str | Path) -> str:
    """Return an addition to an error about a missing path: the folder that a relative path starts from."""
    return "" if Path(path).expanduser().is_absolute() else f"; a relative path starts from this folder, {Path.cwd()}"


def obey_umask(path: Path) -> None:
    """Give a file that a library wrote the permissions that every new file gets here."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    handle = open_handle(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        path.chmod(os.fstat(handle).st_mode & 0o777)
    finally:
        os.close(handle)
        probe.unlink()


def require_space(folder: Path, size: int) -> None:
    """Check that so many bytes fit, before anything is written.

    Raises:
        DiskFullError: They do not.
    """
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return  # a disk that does not say; writing will tell
    if free < size + _SPARE_BYTES:
        raise DiskFullError(
            f"{folder} has {free / 1e6:,.0f} MB free", needed=f"{(size + _SPARE_BYTES) / 1e6:,.0f} MB", fix="free some space"
        )


def require_writable(folder: Path) -> None:
    """Check that files can be made in a folder that need not exist yet, before an hour is spent on what they will hold.

    Nothing is left behind, and no folder is made.

    Raises:
        DiskError: They cannot.
    """
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    probe = there / f".{secrets.token_hex(8)}{_TEMPORARY}"
    try:
        os.close(open_handle(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        probe.unlink()
    except OSError as error:
        raise DiskError.of(f"cannot write to {folder}", error, fix="choose another --out") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically, as `writing_whole` does.

    Raises:
        DiskError: The disk refuses. An old file then stays as it was.
    """
    with writing_whole(path) as file:
        file.write(content)


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is seen at `path` once the block has ended well: temporary file beside it, fsync, rename, fsync of the
    folder. For content that does not fit into memory.

    Raises:
        DiskError: The disk refuses. An old file then stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary_beside(path)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if POSIX:
                    Path(temporary).replace(path)  # before the lock goes with the handle
            if not POSIX:
                Path(temporary).replace(path)  # Windows renames and removes no file that is open
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        fsync_path(path.parent)
    except OSError as error:
        raise DiskError.of(f"cannot write {path}", error) from error


def _temporary_beside(path: Path) -> tuple[int, str]:
    """Create a temporary file, locked as long as its writer lives, where the disk supports locks."""
    while True:
        temporary = str(path.parent / f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            handle = open_handle(Path(temporary), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        with suppress(OSError):
            lock_file(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # another process removed it before it was locked


def temporary_files(folder: Path) -> Iterator[Path]:
    """Iterate over the files in a folder that are being written, or were when their writers were killed."""
    return folder.glob(f".*{_TEMPORARY}")


def remove_temporary_files(folder: Path) -> None:
    """Remove temporary files whose writers were killed. Those of living writers stay: they are locked, or on Windows young."""
    for file in temporary_files(folder):
        with suppress(OSError):
            if POSIX:
                _remove_unless_locked(file)
            elif time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()


def _remove_unless_locked(file: Path) -> None:
    handle = os.open(file, os.O_RDWR)
    try:
        if lock_file(handle, wait=False):
            file.unlink()
    finally:
        os.close(handle)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write indented, strict JSON atomically."""
    write_text(path, to_json(content, indent=2) + "\n")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read what a page or summary shows of a file that may be missing, damaged or half written by a hand.

    Returns:
        The JSON object in the file; an empty one where there is no file, or none that can be read.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8", errors="replace"), finite=False)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def hash_file(path: Path) -> str:
    """Read a file and return the SHA-256 of its bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
