"""Hashes of stored pictures. Every byte is read once; later only files that changed since are read again.

Known hashes are kept in the user's cache folder, one file per data set. A hash is reused for a file with the same path, number
(inode), size, and times of the last change of its content (mtime) and of anything (ctime, which no program can set back). None
of these is part of a hash: equal bytes have equal hashes on every machine. A file that changed in the last seconds is not
remembered, because a second change could fall into the same tick of the clock.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from filelock import FileLock

from open_ldm.core.errors import DiskError
from open_ldm.core.files import remove_temporary_files, write_bytes
from open_ldm.core.user_cache import user_cache
from open_ldm.data.pictures import with_retries
from open_ldm.data.sample import BadPicture

DIGEST_BYTES = 16
_VERSION = "1"
_AT_ONCE = 256
_READERS = 8
_BLOCK_BYTES = 1 << 20
SETTLED_SECONDS = 2.0
_SAVED_EVERY_PICTURES = 1 << 16
_MOST_OLD = 1 << 20
_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """Where a picture's bytes are: `size` of them from `offset` of a file, or all (-1).

    Where only a library can take them from the file, `read` gives them, `offset` tells the file's pictures apart, and `state`
    identifies what else they depend on.
    """

    file: Path
    offset: int = 0
    size: int = -1
    read: Callable[[], bytes] | None = None
    state: bytes = b""


def read_digests(
    pictures: Iterable[StoredPicture | None], location: str, among: int, on_pictures: Callable[[int], None]
) -> list[bytes | BadPicture]:
    """Read pictures and compute their hashes, BLAKE2b of each picture's bytes.

    Args:
        pictures: The pictures; None for one that the index knows to be bad.
        location: Path of the data set, under which its hashes are remembered.
        among: Number of pictures of the data set.
        on_pictures: Called with the number of pictures done.

    Returns:
        The hash of each picture, or why it cannot be read now; a constant for None.
    """
    remembered = _Remembered(location, max(among, _MOST_OLD))
    results: list[bytes | BadPicture] = []
    saved = 0
    left = iter(pictures)
    try:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="digests") as pool:
            while portion := list(itertools.islice(left, _AT_ONCE)):
                files = [list(group) for _, group in itertools.groupby(portion, lambda picture: picture and picture.file)]
                for digests in pool.map(partial(_read_one_file, remembered=remembered), files):
                    results += digests
                on_pictures(len(results))
                if len(results) - saved >= max(_SAVED_EVERY_PICTURES, saved):  # saving writes all, so ever more rarely
                    saved = len(results)
                    remembered.save()
    finally:
        remembered.save()
    return results


def _read_one_file(pictures: Sequence[StoredPicture | None], remembered: _Remembered) -> list[bytes | BadPicture]:
    """Compute the digests of pictures in one file."""
    first = pictures[0]
    if first is None:
        return [bytes(DIGEST_BYTES)] * len(pictures)
    try:
        status = first.file.stat()
    except OSError:
        status = None  # reading tries again, and gives the reason
    return [_read_picture(picture, status, remembered) for picture in pictures if picture is not None]


def _read_picture(picture: StoredPicture, status: os.stat_result | None, remembered: _Remembered) -> bytes | BadPicture:
    stamp = b"" if status is None else _stamp(picture, status)
    known = remembered.digests.get(stamp)
    if known is None:
        try:
            known = with_retries(partial(_read, picture), picture.file.name)
        except BadPicture as verdict:
            return verdict
    if status is not None and time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
        remembered.keep(stamp, known)
    return known


def _read(picture: StoredPicture) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if picture.read is not None:
        digest.update(picture.read())
        return digest.digest()
    left = picture.size
    with picture.file.open("rb", buffering=0) as file:
        file.seek(picture.offset)
        while left and (block := file.read(_BLOCK_BYTES if left < 0 else min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block) if left > 0 else 0
    if left > 0:
        raise OSError(f"{picture.file.name} became shorter")
    return digest.digest()


def _stamp(picture: StoredPicture, status: os.stat_result) -> bytes:
    """Identify a state of a stored picture on this machine."""
    path = os.fsencode(Path(os.path.abspath(picture.file)))  # noqa: PTH100 - resolve() would look at the disk
    file = (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    stamp = (file, picture.offset, picture.size, *([picture.state] if picture.state else []))
    return hashlib.blake2b(repr(stamp).encode(), digest_size=DIGEST_BYTES).digest()


class _Remembered:
    """Digests by stamp, read from the user's cache and written back. A damaged or unwritable cache counts as empty.

    `most_old` is the number of digests that are kept although they were not used: the newest, of other parts of the data or of
    other processes.
    """

    def __init__(self, location: str, most_old: int) -> None:
        self._most_old = most_old
        name = hashlib.blake2b(location.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
        self._file = user_cache("digests") / f"{name}.safetensors"
        self.digests = self._load()
        self._used: dict[bytes, bytes] = {}
        self._changed = False

    def keep(self, stamp: bytes, digest: bytes) -> None:
        """Remember a digest, or that it was used."""
        self._changed |= stamp not in self.digests
        self._used[stamp] = digest

    def save(self) -> None:
        """Merge new digests, if there are any, into those that other processes saved meanwhile."""
        if not self._changed:
            return
        remove_temporary_files(self._file.parent)
        with suppress(DiskError), one_at_a_time():
            old = [item for item in self._load().items() if item[0] not in self._used]
            merged = {**dict(old[-self._most_old :]), **self._used}
            pairs = {"stamps": b"".join(merged), "digests": b"".join(merged.values())}
            arrays = {name: np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES) for name, joined in pairs.items()}
            write_bytes(self._file, safetensors.numpy.save(arrays, {"version": _VERSION}))
        self._changed = False

    def _load(self) -> dict[bytes, bytes]:
        try:
            with safetensors.safe_open(self._file, framework="numpy") as opened:
                if (opened.metadata() or {}).get("version") != _VERSION:
                    return {}
                stamps, digests = (opened.get_tensor(name) for name in ("stamps", "digests"))
        except (OSError, safetensors.SafetensorError):
            return {}
        if stamps.dtype != np.uint8 or stamps.shape != digests.shape or stamps.shape[1:] != (DIGEST_BYTES,):
            return {}
        return dict(zip(map(bytes, stamps), map(bytes, digests), strict=True))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one process of this machine save at a time. Without a lock after a minute only some digests may be lost."""
    lock = user_cache("digests.lock")
    with ExitStack() as held:
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(lock, timeout=_LOCK_SECONDS))
        yield
