"""Open files of a source, of which the least used are closed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from open_ldm.core.files import open_handle
from open_ldm.core.locks import optional_module

_FEWEST_OPEN, _OPEN_OF_A_STREAM = 64, 2
"""A stream of the windowed order goes through one shard at a time, and two where its window crosses their border."""


class OpenFiles:
    """Open files, of which the least used are closed. Reads state their offset, so a handle inherited by fork does no harm."""

    def __init__(self) -> None:
        self.most = _FEWEST_OPEN
        self._handles: OrderedDict[Path, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._handles)

    def expect_streams(self, streams: int) -> None:
        """Let as many files stay open as so many streams need, and no more than half of what the system allows a process."""
        allowed = _most_files() // 2
        self.most = max(_FEWEST_OPEN, min(_OPEN_OF_A_STREAM * streams, allowed))

    def get(self, path: Path, opening: Callable[[], None]) -> int:
        """Return an open file; `opening` is called before it is opened."""
        if path not in self._handles:
            while len(self._handles) >= self.most:
                os.close(self._handles.popitem(last=False)[1])
            opening()
            self._handles[path] = open_handle(path, os.O_RDONLY)
        self._handles.move_to_end(path)
        return self._handles[path]

    def close(self, path: Path) -> None:
        """Close a file if it is open."""
        if (handle := self._handles.pop(path, None)) is not None:
            os.close(handle)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": OrderedDict()}

    def __del__(self) -> None:
        for handle in self.__dict__.get("_handles", {}).values():
            os.close(handle)


def _most_files() -> int:
    """How many files the system lets this process open."""
    resource = optional_module("resource")
    return 512 if resource is None else int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
