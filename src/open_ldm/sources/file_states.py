"""What is known of the files of a folder, row by row: their states and hashes, compared all at once.

A training that starts on a million files asks the disk for each file's state and no more: the hashes of all whose number
(inode), size and times of change are those of before are taken from one file of the user's cache, which has a hash of itself
and belongs to one list of names.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from open_ldm.core.errors import DiskError
from open_ldm.core.files import write_bytes
from open_ldm.data.permutation import Indices
from open_ldm.sources.digests import DIGEST_BYTES, SETTLED_SECONDS, one_at_a_time
from open_ldm.sources.files import user_cache

Array = np.ndarray[Any, np.dtype[Any]]

_VERSION = "1"
_AT_ONCE = 1 << 16


class FileStates:
    """The states and hashes of the files of one folder.

    Args:
        root: The folder.
        names: Names of all its pictures, in the order of the source; None for one that is known to be bad.
    """

    def __init__(self, root: Path, names: Sequence[str | None]) -> None:
        self._root, self._names = str(root.resolve()), names
        said = "\0".join([self._root, *(name or "" for name in names)])
        self._key = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        folder = hashlib.blake2b(self._root.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        self._file = user_cache("digests") / f"{folder}.states.safetensors"

    def digests_of(self, indices: Indices) -> bytes | None:
        """Return the hashes of files, 16 bytes each, zeros for bad ones; None unless every one is as it was.

        Args:
            indices: Numbers of the files, int64.
        """
        known = self._load()
        if known is None:
            return None
        states, digests = known
        start = 0
        for now in self._states_now(indices):
            rows = indices[start : start + len(now)]
            if not np.array_equal(states[rows], now):
                return None
            start += len(now)
        return digests[indices].tobytes()

    def before_reading(self, indices: Indices) -> Array:
        """Return the states of files that are about to be read, int64 [n, 4]; of those that changed a moment ago none, -1."""
        now = np.concatenate(list(self._states_now(indices)))
        now[now[:, 2:].max(axis=1) > time.time_ns() - SETTLED_SECONDS * 1e9] = -1
        return now

    def remember(self, indices: Indices, before: Array, digests: bytes) -> None:
        """Keep the hashes of files that have just been read.

        Args:
            indices: Numbers of the files, int64.
            before: What `before_reading` gave: a file that changed while it was read is then seen to have.
            digests: Their hashes, 16 bytes each.
        """
        with suppress(DiskError), one_at_a_time():
            known = self._load()
            states = np.full((len(self._names), 4), -1, dtype=np.int64) if known is None else known[0]
            kept = np.zeros((len(self._names), DIGEST_BYTES), dtype=np.uint8) if known is None else known[1]
            states[indices], kept[indices] = before, np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
            content = {"version": _VERSION, "key": self._key, "sha256": _hash(states, kept)}
            write_bytes(self._file, safetensors.numpy.save({"states": states, "digests": kept}, content))

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
        shapes = (states.shape, digests.shape) == ((len(self._names), 4), (len(self._names), DIGEST_BYTES))
        return (states, digests) if shapes and said.get("sha256") == _hash(states, digests) else None


def _hash(states: Array, digests: Array) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(states).data)
    digest.update(np.ascontiguousarray(digests).data)
    return digest.hexdigest()
