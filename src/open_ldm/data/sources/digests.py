"""Hashes of stored pictures: of every byte, read once; later only of those whose file changed since.

What is known lies in the user's cache folder, one file per data set. It is believed for a file of the same path, number
(inode), size, and times of its last change to content (mtime) and to anything (ctime, which no program can set back). None of
these is part of a hash: equal bytes have equal hashes on every machine. A file changed in the last seconds is not remembered,
because a second change could fall into the same tick of the clock.
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
from open_ldm.data.pictures import with_retries
from open_ldm.data.sample import BadPicture
from open_ldm.data.sources.files import user_cache

DIGEST_BYTES = 16
_VERSION = "1"
_AT_ONCE = 256
_READERS = 8
_BLOCK_BYTES = 1 << 20
_SETTLED_SECONDS = 2.0
_SAVED_EVERY_PICTURES = 1 << 16
_MOST_OLD = 1 << 20
_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """Where a picture's bytes lie: `size` of them from `offset` of a file, or all (-1)."""

    file: Path
    offset: int = 0
    size: int = -1


def digests_of(
    pictures: Iterable[StoredPicture | None], place: str, among: int, on_pictures: Callable[[int], None]
) -> list[bytes | BadPicture]:
    """BLAKE2b of each picture's bytes, or why they cannot be read now; a constant for None, which the index knows to be bad.

    `place`: of the data set, under which its hashes are remembered. `among`: how many pictures it has. `on_pictures` is told
    how many are done.
    """
    remembered = _Remembered(place, max(among, _MOST_OLD))
    found: list[bytes | BadPicture] = []
    saved = 0
    left = iter(pictures)
    try:
        with ThreadPoolExecutor(_READERS, thread_name_prefix="digests") as pool:
            while portion := list(itertools.islice(left, _AT_ONCE)):
                files = [list(group) for _, group in itertools.groupby(portion, lambda one: one and one.file)]
                for digests in pool.map(partial(_of_one_file, remembered=remembered), files):
                    found += digests
                on_pictures(len(found))
                if len(found) - saved >= max(_SAVED_EVERY_PICTURES, saved):  # each writes all: few of many
                    saved = len(found)
                    remembered.save()
    finally:
        remembered.save()
    return found


def _of_one_file(pictures: Sequence[StoredPicture | None], remembered: _Remembered) -> list[bytes | BadPicture]:
    """Digests of pictures that lie in one file."""
    first = pictures[0]
    if first is None:
        return [bytes(DIGEST_BYTES)] * len(pictures)
    try:
        status = first.file.stat()
    except OSError:
        status = None  # reading says why, and tries again
    return [_of_picture(one, status, remembered) for one in pictures if one is not None]


def _of_picture(picture: StoredPicture, status: os.stat_result | None, remembered: _Remembered) -> bytes | BadPicture:
    stamp = b"" if status is None else _stamp(picture, status)
    known = remembered.digests.get(stamp)
    if known is None:
        try:
            known = with_retries(partial(_read, picture), picture.file.name)
        except BadPicture as verdict:
            return verdict
    if status is not None and time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
        remembered.keep(stamp, known)
    return known


def _read(picture: StoredPicture) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
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
    """Names a state of a stored picture on this machine."""
    path = os.fsencode(Path(os.path.abspath(picture.file)))  # noqa: PTH100 - resolve() would look at the disk
    file = (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.blake2b(repr((file, picture.offset, picture.size)).encode(), digest_size=DIGEST_BYTES).digest()


class _Remembered:
    """Digests by stamp, read from the user's cache and written back; damaged or unwritable, it is as if empty.

    `most_old`: how many are kept that were not asked for, the newest: of other parts of the data, by other processes.
    """

    def __init__(self, place: str, most_old: int) -> None:
        self._most_old = most_old
        name = hashlib.blake2b(place.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
        self._file = user_cache("digests") / f"{name}.safetensors"
        self.digests = self._loaded()
        self._used: dict[bytes, bytes] = {}
        self._changed = False

    def keep(self, stamp: bytes, digest: bytes) -> None:
        """Remember one, or that it was used."""
        self._changed |= stamp not in self.digests
        self._used[stamp] = digest

    def save(self) -> None:
        """Add what is known to what others saved meanwhile, if there is something new."""
        if not self._changed:
            return
        remove_temporary_files(self._file.parent)
        with suppress(DiskError), _one_at_a_time():
            old = [item for item in self._loaded().items() if item[0] not in self._used]
            merged = {**dict(old[-self._most_old :]), **self._used}
            pairs = {"stamps": b"".join(merged), "digests": b"".join(merged.values())}
            arrays = {name: np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES) for name, joined in pairs.items()}
            write_bytes(self._file, safetensors.numpy.save(arrays, {"version": _VERSION}))
        self._changed = False

    def _loaded(self) -> dict[bytes, bytes]:
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
def _one_at_a_time() -> Iterator[None]:
    """Among the processes of this machine. Where no lock can be had in a minute, some digests may be lost and nothing else."""
    lock = user_cache("digests.lock")
    with ExitStack() as held:
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(lock, timeout=_LOCK_SECONDS))
        yield
