"""What is known of files and the pictures in them: the files' states and the pictures' hashes, compared all at once.

A training that starts on a million files, or on shards of a million pictures, asks the disk for each file's state and no more:
the hashes of all whose number (inode), size and times of change are those of before are taken from one file of the user's
cache, which has a hash of itself and belongs to one list of names.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from open_ldm.core.errors import DiskError
from open_ldm.core.files import write_bytes
from open_ldm.core.user_cache import user_cache
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture
from open_ldm.sources.digests import DIGEST_BYTES, SETTLED_SECONDS, one_at_a_time

Array = np.ndarray[Any, np.dtype[Any]]

_VERSION = "1"
FEW = 1000
"""Hashes of no more pictures than this are looked up one by one."""
_AT_ONCE = 1 << 16
_UNKNOWN = 0xFF
"""Sixteen of it stand for a hash that is not known; zeros for that of a bad picture."""


class FileStates:
    """The states of files, and the hashes of the pictures in them.

    Args:
        root: Their folder.
        names: Names of all files, in the order of the source; None for one that is known to be bad.
        counts: Number of pictures in each file, int64; None where each file is one picture.
        chosen: Whatever else decides which pictures these are.
        data_set: What stays the same when files are added: of each data set one list is kept, the newest.
    """

    def __init__(
        self, root: Path, names: Sequence[str | None], counts: Indices | None = None, chosen: str = "", data_set: str = ""
    ) -> None:
        self._root, self._names = str(root.resolve()), names
        self._ends = None if counts is None else counts.cumsum()
        self._length = len(names) if self._ends is None else int(self._ends[-1])
        said = "\0".join(
            [self._root, *(name or "" for name in names), *([] if counts is None else [str(counts.tolist()), chosen])]
        )
        self._key = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        self._file = _file_of(f"{self._root}\0{data_set}" if data_set else self._root)

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return the hashes of pictures, 16 bytes each, zeros for bad ones; None unless all are known and as they were.

        Args:
            indices: Numbers of the pictures, int64; where they are few, None is returned.
        """
        known = self._load() if len(indices) > FEW else None
        if known is None:
            return None
        states, digests = known
        files, start = self._files_of(indices), 0
        for now in self._states_now(files):
            if not np.array_equal(states[files[start : start + len(now)]], now):
                return None
            start += len(now)
        found = digests[indices]
        return None if self._ends is not None and (found == _UNKNOWN).all(axis=1).any() else found.tobytes()

    def reading(self, indices: Indices, read: Callable[[], list[bytes | BadPicture]]) -> list[bytes | BadPicture]:
        """Read pictures for their hashes, and keep these where there are many and all could be read.

        Args:
            indices: Numbers of the pictures, int64.
            read: Reads them.
        """
        before = self.before_reading(indices) if len(indices) > FEW else None
        found = read()
        if before is not None and all(isinstance(digest, bytes) for digest in found):
            self.remember(indices, before, b"".join(digest for digest in found if isinstance(digest, bytes)))
        return found

    def before_reading(self, indices: Indices) -> Array:
        """Return the states of the files of pictures that are about to be read, int64 [files, 4].

        Of those that changed a moment ago it is none, -1.
        """
        now = np.concatenate(list(self._states_now(self._files_of(indices))))
        now[now[:, 2:].max(axis=1) > time.time_ns() - SETTLED_SECONDS * 1e9] = -1
        return now

    def remember(self, indices: Indices, before: Array, digests: bytes) -> None:
        """Keep the hashes of pictures that have just been read.

        Args:
            indices: Numbers of the pictures, int64.
            before: What `before_reading` gave: a file that changed while it was read is then seen to have.
            digests: Their hashes, 16 bytes each.
        """
        with suppress(DiskError), one_at_a_time():
            known, files = self._load(), self._files_of(indices)
            states = np.full((len(self._names), 4), -1, dtype=np.int64) if known is None else known[0]
            kept = np.full((self._length, DIGEST_BYTES), _UNKNOWN, dtype=np.uint8) if known is None else known[1]
            if self._ends is not None:
                for file in files[(states[files] != before).any(axis=1)].tolist():
                    kept[(self._ends[file - 1] if file else 0) : self._ends[file]] = _UNKNOWN
            states[files], kept[indices] = before, np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
            content = {"version": _VERSION, "key": self._key, "sha256": _hash(states, kept)}
            write_bytes(self._file, safetensors.numpy.save({"states": states, "digests": kept}, content))
            with suppress(OSError):
                _file_of(self._key).unlink(missing_ok=True)  # earlier versions kept a file for each state of shards

    def _files_of(self, indices: Indices) -> Indices:
        """The numbers of the files of some pictures: for single pictures the same, else each file once."""
        return indices if self._ends is None else np.unique(np.searchsorted(self._ends, indices, side="right"))

    def _states_now(self, indices: Indices) -> Iterator[Array]:
        """Number, size and times of files, int64 [some, 4]; zeros for bad ones, and -2, which no file has, for missing ones."""
        for start in range(0, len(indices), _AT_ONCE):
            rows = [self._state(self._names[index]) for index in indices[start : start + _AT_ONCE].tolist()]
            yield np.array(rows, dtype=np.int64).reshape(-1, 4)

    def _state(self, name: str | None) -> tuple[int, int, int, int]:
        if name is None:
            return 0, 0, 0, 0
        try:
            status = os.stat(f"{self._root}/{name}")  # noqa: PTH116 - a Path for each of a million files takes longer than this
        except OSError:
            return -2, -2, -2, -2
        return status.st_ino & (1 << 63) - 1, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _load(self) -> tuple[Array, Array] | None:
        try:
            with safetensors.safe_open(self._file, framework="numpy") as opened:
                said = opened.metadata() or {}
                if said.get("version") != _VERSION or said.get("key") != self._key:
                    return None
                states, digests = opened.get_tensor("states"), opened.get_tensor("digests")
        except (OSError, safetensors.SafetensorError):
            return None
        shapes = (states.shape, digests.shape) == ((len(self._names), 4), (self._length, DIGEST_BYTES))
        return (states, digests) if shapes and said.get("sha256") == _hash(states, digests) else None


def states_of_shards(path: str, shards: Sequence[Path], sizes: Indices, rules: object, bad: Sequence[int]) -> FileStates | None:
    """Return what is remembered of shards; None where they lie in several folders.

    Args:
        path: The path or pattern that names them.
        shards: Their files.
        sizes: Number of samples in each, int64.
        rules: Which members are pictures; `repr` tells them apart.
        bad: Samples that are none.
    """
    folder = shards[0].parent
    if any(shard.parent != folder for shard in shards):
        return None
    data_set = repr((str(Path(path).expanduser().absolute()), rules))
    return FileStates(folder, [shard.name for shard in shards], sizes, repr((rules, bad)), data_set)


def _file_of(place: str) -> Path:
    name = hashlib.blake2b(place.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    return user_cache("digests") / f"{name}.states.safetensors"


def _hash(states: Array, digests: Array) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(states).data)
    digest.update(np.ascontiguousarray(digests).data)
    return digest.hexdigest()
