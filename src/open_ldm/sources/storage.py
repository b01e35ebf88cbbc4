"""Where shards are read from: this machine's disk, or a store behind a network by way of files that are kept here.

A folder behind a network has a folder here, in which its index, and the shards that are read whole, have the same names. All
else deals with the paths in it, whether or not the files are there yet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from filelock import FileLock

from open_ldm.core.errors import DataError
from open_ldm.core.files import read_at, write_bytes, writing_whole
from open_ldm.core.user_cache import user_cache
from open_ldm.data import pictures
from open_ldm.data.sample import BadPicture
from open_ldm.sources.network import Network, NetworkError, NotThereError, RemoteConfig
from open_ldm.sources.open_files import OpenFiles
from open_ldm.sources.shard_room import ShardRoom
from open_ldm.sources.sidecar import Stamp

CANNOT_FETCH = "cannot be fetched"

_PIECE_BYTES = 32 << 20
_LOCKS = 256
_MOST_REMOVALS, _MOST_FETCHES = 3, 5

T = TypeVar("T")


class Storage(Protocol):
    """Gives what lies in a folder of shards."""

    remote: bool

    def obtain(self, path: Path, *, again: bool = False) -> bool:
        """See to it that a small file beside the shards can be read at `path`.

        Args:
            path: Where it is, or would be, on this machine.
            again: What was fetched earlier is fetched anew.

        Returns:
            Whether there is such a file.

        Raises:
            DataError: The network does not say.
        """

    def made_here(self, path: Path) -> None:
        """Take note that a small file beside the shards was made on this machine: it is not fetched any more."""

    def changed(self, shard: Path, stamp: Stamp) -> bool:
        """Return whether a shard is not in the state that an index belongs to, as far as can be told without reading it."""

    def read(self, shard: Path, offset: int, size: int, what: str, opening: Callable[[], None], whole: int | None) -> bytes:
        """Read a part of a shard.

        Args:
            shard: Its path.
            offset: Where the part begins.
            size: Its length in bytes.
            what: The sample, for the reason of a fault.
            opening: Called before the shard is opened.
            whole: Length of the shard in bytes; None where it is not known.

        Raises:
            BadPicture: The part cannot be read.
        """

    def discard(self, shard: Path) -> None:
        """Forget a shard that was fetched and whose bytes proved wrong."""

    def expect_streams(self, streams: int) -> None:
        """Get ready for reads that go through so many shards side by side, each to its end."""


def read_obtained(storage: Storage, paths: Sequence[Path], read: Callable[[], T], *, again: bool = False) -> T:
    """Read a file that knows its own hash, and fetch it anew where what came is not what was written.

    Args:
        storage: Gives it.
        paths: Where it may be; the first that is there counts.
        read: Reads it. Raises DataError for a damaged one.
        again: As `Storage.obtain`.

    Raises:
        DataError: It stays damaged, or the network does not give it.
    """
    for attempt in range(_MOST_FETCHES):
        any(storage.obtain(path, again=again or attempt > 0) for path in paths)
        try:
            return read()
        except DataError:
            if not storage.remote or attempt == _MOST_FETCHES - 1:
                raise
    raise AssertionError("the last try returns or raises")


class LocalFiles:
    """Shards on this machine's disk."""

    remote = False

    def __init__(self) -> None:
        self.open_files = OpenFiles()

    def obtain(self, path: Path, *, again: bool = False) -> bool:
        """See `Storage`."""
        return path.is_file()

    def made_here(self, path: Path) -> None:
        """Do nothing: all files are here."""

    def changed(self, shard: Path, stamp: Stamp) -> bool:
        """See `Storage`."""
        try:
            return Stamp.of(shard.stat()) != stamp
        except OSError:
            return True

    def read(self, shard: Path, offset: int, size: int, what: str, opening: Callable[[], None], whole: int | None) -> bytes:
        """See `Storage`."""
        content = pictures.with_retries(lambda: read_at(self.open_files.get(shard, opening), size, offset), what)
        if len(content) != size:
            raise BadPicture(pictures.CANNOT_READ, f"{what}: {shard.name} became shorter", of_disk=True)
        return content

    def discard(self, shard: Path) -> None:
        """Do nothing: the disk has what it has."""

    def expect_streams(self, streams: int) -> None:
        """See `Storage`."""
        self.open_files.expect_streams(streams)


class RemoteFiles:
    """Shards behind a network. Parts of them are asked for one by one, until streams are expected; then they are fetched whole.

    Each file is fetched once on a machine, however many processes read it.

    Attributes:
        network: The folder there.
        folder: The folder here.
    """

    remote = True

    def __init__(self, url: str, config: RemoteConfig) -> None:
        self.network = Network(url, config)
        self._base = user_cache("remote") if config.folder is None else config.folder.expanduser()
        self.folder = self._base / hashlib.blake2b(self.network.url.encode(), digest_size=8).hexdigest()
        self.open_files = OpenFiles()
        self._room = ShardRoom(self._base, config.gigabytes * 1e9)
        self._whole = False

    def obtain(self, path: Path, *, again: bool = False) -> bool:
        """See `Storage`. A file that was made here, by `ldm data index`, is never fetched."""
        fetched = _mark_of(path)
        if path.is_file() and not (again and fetched.exists()):
            return True
        with self._lock(path.name):
            if path.is_file() and not again:
                return True
            try:
                content = self.network.read_all(path.name)
                while path.suffix == ".json" and content != (other := self.network.read_all(path.name)):
                    content = other  # it has no hash of its own, so two answers must agree
            except NotThereError:
                return path.is_file() and not fetched.exists()
            except NetworkError as error:
                raise DataError(str(error), fix="check the network and the address, and run the same command again") from None
            write_bytes(path, content)
            fetched.touch()
        return True

    def made_here(self, path: Path) -> None:
        """See `Storage`."""
        _mark_of(path).unlink(missing_ok=True)

    def changed(self, shard: Path, stamp: Stamp) -> bool:
        """See `Storage`. Another size tells; digests tell the rest when a picture is read."""
        try:
            return self.network.size(shard.name) != stamp.bytes
        except NotThereError:
            return True
        except NetworkError as error:
            raise DataError(str(error), fix="check the network, and run the same command again") from None

    def read(self, shard: Path, offset: int, size: int, what: str, opening: Callable[[], None], whole: int | None) -> bytes:
        """See `Storage`."""
        try:
            if not self._whole:
                return self.network.read(shard.name, offset, size)

            content = pictures.with_retries(lambda: read_at(self._handle(shard, whole), size, offset), what)
        except NotThereError as error:
            raise BadPicture(pictures.MISSING, f"{what}: {error}", of_disk=True) from None
        except NetworkError as error:
            raise BadPicture(CANNOT_FETCH, f"{what}: {error}", of_disk=True) from None
        if len(content) != size:
            raise BadPicture(CANNOT_FETCH, f"{what}: {self.network.address(shard.name)} became shorter", of_disk=True)
        return content

    def _handle(self, shard: Path, whole: int | None) -> int:
        """An open shard, fetched first unless it is here."""

        def fetched() -> None:
            self.fetch(shard, whole)
            os.utime(shard)  # the time of its last use, by which room is made

        for _ in range(_MOST_REMOVALS):
            with suppress(FileNotFoundError):  # another process, which needed room, removed it before it was opened
                return self.open_files.get(shard, fetched)
        raise NetworkError(f"{self.network.address(shard.name)} finds no room here, of {self._room.most_bytes / 1e9:g} GB")

    def fetch(self, shard: Path, whole: int | None = None) -> None:
        """Fetch a shard unless it is here.

        Args:
            shard: Where it goes.
            whole: Its length in bytes; None asks for it.

        Raises:
            NetworkError: It cannot be fetched, is not there, or is larger than all that may be kept.
            DiskError: It cannot be kept.
        """
        size = self.network.size(shard.name) if whole is None else whole
        if _is_whole(shard, size):
            return
        with self._lock(shard.name):
            if _is_whole(shard, size):
                return  # another process fetched it meanwhile
            if size > self._room.most_bytes:
                raise NetworkError(f"{self.network.address(shard.name)} has {size / 1e9:g} GB; fix: a larger remote.gigabytes")
            with writing_whole(shard) as file:
                self._room.reserve(file, size)
                for offset in range(0, size, _PIECE_BYTES):
                    file.write(self.network.read(shard.name, offset, min(_PIECE_BYTES, size - offset)))

    def discard(self, shard: Path) -> None:
        """See `Storage`."""
        self.open_files.close(shard)
        shard.unlink(missing_ok=True)

    def expect_streams(self, streams: int) -> None:
        """See `Storage`."""
        self._whole = True
        self.open_files.expect_streams(streams)

    def _lock(self, name: str) -> FileLock:
        """A lock of all processes of this machine for one file; few lock files serve all names."""
        folder = self._base / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        number = int.from_bytes(hashlib.blake2b(f"{self.folder.name}/{name}".encode(), digest_size=2).digest()) % _LOCKS
        return FileLock(folder / f"{number:03d}.lock")


def _mark_of(path: Path) -> Path:
    """An empty file that says of another one that it was fetched."""
    return path.with_name(f".{path.name}.fetched")


def _is_whole(shard: Path, size: int) -> bool:
    """A file has its name only once all of it was written; one of another size is of another day."""
    try:
        return shard.stat().st_size == size
    except OSError:
        return False
