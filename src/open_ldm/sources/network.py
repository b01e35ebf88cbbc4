"""Reading files of a folder behind a network, through fsspec: with time-outs, tries with pauses, and checked lengths.

Addresses are told without user names, passwords and queries. What a library says of a fault may hold them, so only its kind and
a status are told.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, shortened
from open_ldm.core.extras import need

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_ELSEWHERE = re.compile(r"[\\:\x00-\x1f]|^\.*$")
"""Names of a listing that would mean another folder, or no file, where they are kept; no shard has one."""
_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS = 20.0, 0.1
_FOR_GOOD = (400, 401, 403, 405, 410, 416, 451)
"""Answers that no second try changes."""

T = TypeVar("T")


def _hub() -> None:
    need("huggingface_hub", extra="text")


def _s3() -> None:
    need("s3fs", extra="remote")


def _google() -> None:
    need("gcsfs", extra="remote")


def _web() -> None:
    need("aiohttp", extra="remote")


LIBRARIES: dict[str, Callable[[], None]] = {
    "s3": _s3,
    "gs": _google,
    "http": _web,
    "https": _web,
    "hf": _hub,
    "memory": lambda: None,
}
"""Schemes that can be read, and what makes sure that their library is installed."""


class RemoteConfig(Config):
    """How shards behind a network are read.

    Attributes:
        folder: Where fetched shards and indexes are kept, on a disk of each machine; null takes the user's cache folder.
        gigabytes: Most of the shards that are kept there, those that are being fetched among them, over all processes of the
            machine; the ones that were used longest ago are removed first.
        timeout_seconds: Longest wait for one answer, of at most 32 MB.
        tries: Times that a read is tried, with growing pauses, before its sample counts as bad.
    """

    folder: Path | None = None
    gigabytes: float = Field(default=100.0, gt=0)
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    tries: int = Field(default=5, ge=1, le=20)


class NetworkError(Exception):
    """A file behind a network could not be read; the message names its address and what happened."""


class NotThereError(NetworkError):
    """There is no such file; the message is its address."""


def is_remote(path: str | Path) -> bool:
    """Return whether a path is an address, such as s3://bucket/train."""
    return _SCHEME.match(str(path)) is not None


def shown(url: str) -> str:
    """Return an address as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    query = parts.scheme in ("http", "https")
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "" if query else parts.query, ""))


def check_address(url: str) -> None:
    """Raise ConfigError for an address that cannot be read, or that holds what a run must not keep."""
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme not in LIBRARIES or "::" in url:
        raise ConfigError(
            f"{shown(url)} cannot be read", needed=f"an address of {shortened([f'{one}://' for one in LIBRARIES])}"
        )
    parts = urlsplit(url)
    if "@" in parts.netloc or (scheme in ("http", "https") and "?" in url):
        raise ConfigError(
            f"{shown(url)} was given with a password, a token or a query, which the run would keep",
            needed="an address without them",
            fix="give the password in ~/.netrc or in the variables that the store's own tools read",
        )
    if scheme == "hf" and parts.netloc != "datasets":
        raise ConfigError(f"{shown(url)} is no data set of the hub", needed="hf://datasets/OWNER/NAME/folder")


class Network:
    """The files of one folder behind a network. It can be copied into other processes.

    Attributes:
        url: The folder's address, without a slash at its end.
        faults: Reads that failed in this process, also those that a later try repaired.
    """

    def __init__(self, url: str, config: RemoteConfig) -> None:
        check_address(url)
        LIBRARIES[urlsplit(url).scheme.lower()]()
        self.url, self.faults = url.rstrip("/"), 0
        self._config = config
        self._opened: tuple[Any, str, int] | None = None

    def address(self, name: str) -> str:
        """Return the address of a file as it may be shown."""
        return shown(f"{self.url}/{name}")

    def names(self) -> dict[str, int | None]:
        """List the folder: names of its files, and their sizes in bytes where the listing says them.

        Raises:
            NotThereError: There is no such folder.
            NetworkError: It cannot be listed.
        """
        files, base = self._files()
        listed = self._tried("", lambda: self._bounded(files.ls, base, detail=True))
        sizes = {str(one["name"]).rstrip("/").rpartition("/")[2]: one.get("size") for one in listed if one["type"] == "file"}
        return {name: size for name, size in sizes.items() if not _ELSEWHERE.search(name)}

    def size(self, name: str) -> int:
        """Ask for the size of a file in bytes. Raises NetworkError, NotThereError among them."""
        files, base = self._files()
        size = self._tried(name, lambda: self._bounded(files.info, f"{base}/{name}")).get("size")
        if size is None:
            raise NetworkError(f"{self.address(name)} does not say how large it is")
        return int(size)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes of a file from `offset` on. Raises NetworkError, NotThereError among them."""
        if not size:
            return b""
        files, base = self._files()

        def read() -> bytes:
            """Ask for the bytes once. Raises OSError where fewer come."""
            content = bytes(self._bounded(files.cat_file, f"{base}/{name}", start=offset, end=offset + size))
            if len(content) != size:
                raise OSError(f"{len(content):,} bytes came of {size:,}")
            return content

        return self._tried(name, read)

    def read_all(self, name: str) -> bytes:
        """Read a small file whole. Raises NetworkError, NotThereError among them."""
        files, base = self._files()
        return self._tried(name, lambda: bytes(self._bounded(files.cat_file, f"{base}/{name}")))

    def _files(self) -> tuple[Any, str]:
        """The file system of fsspec, one in each process, and the folder's path there."""
        if self._opened is None or self._opened[2] != os.getpid():  # neither sessions nor threads outlive a fork
            import fsspec

            web = {"client_kwargs": {"trust_env": True}} if self.url.lower().startswith("http") else {}
            files, base = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, use_listings_cache=False, **web)
            self._opened = files, base.rstrip("/"), os.getpid()
        return self._opened[:2]

    def _bounded(self, ask: Callable[..., T], *given: Any, **also: Any) -> T:
        """Call a function of the file system, and give up after the time-out."""
        limit = self._config.timeout_seconds
        if getattr(self._files()[0], "async_impl", False):
            return ask(*given, timeout=limit, **also)
        result: list[T] = []
        failed: list[BaseException] = []

        def answer() -> None:
            """Ask, and keep the answer or the error for whoever waits."""
            try:
                result.append(ask(*given, **also))
            except BaseException as error:  # handed to the thread that waits
                failed.append(error)

        asking = threading.Thread(target=answer, daemon=True)
        asking.start()
        asking.join(limit)
        if failed:
            raise failed[0]
        if not result:
            raise TimeoutError
        return result[0]

    def _tried(self, name: str, action: Callable[[], T]) -> T:
        pause = _FIRST_PAUSE_SECONDS
        for tries_left in range(self._config.tries - 1, -1, -1):
            try:
                return action()
            except FileNotFoundError:
                raise NotThereError(self.address(name)) from None
            except Exception as error:  # each store has errors of its own, without a common base
                self.faults += 1
                if not tries_left or _status(error) in _FOR_GOOD or isinstance(error, PermissionError):
                    raise NetworkError(f"{self.address(name)}: {_words(error, self._config.timeout_seconds)}") from None
                self._opened = None if isinstance(error, RuntimeError) else self._opened  # a closed session or loop
            time.sleep(pause * random.SystemRandom().uniform(0.5, 1.5))  # processes that failed together come back apart
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _status(error: BaseException) -> int | None:
    """The status of an answer by HTTP, as aiohttp, httpx and requests keep it."""
    for status in (getattr(error, "status", None), getattr(getattr(error, "response", None), "status_code", None)):
        if isinstance(status, int):
            return status
    return None


def _words(error: BaseException, limit: float) -> str:
    if (status := _status(error)) is not None:
        return f"the answer was {status}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return f"no answer within {limit:g} s"
    if type(error) is OSError and not error.errno:
        return str(error)  # one of ours
    return getattr(error, "strerror", None) or type(error).__name__
