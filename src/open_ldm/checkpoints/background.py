"""A save in the background: from a copy of the state, while training goes on; at most one at a time."""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from open_ldm.checkpoints.checkpoint import Saved
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.device import host_memory
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.failure import Failure

Files = Mapping[str, Mapping[str, Tensor]]

SHARE_OF_FREE_MEMORY = 3
"""A copy of the state may take one part in so many of a host's free memory."""


@dataclass(frozen=True)
class Done:
    """A save that has ended well.

    Attributes:
        saved: What it wrote.
        samples_seen: Of the state that it saved.
        seconds: From its beginning to its end.
        waited_seconds: For so long training stood still, while the copy was taken.
    """

    saved: Saved
    samples_seen: int
    seconds: float
    waited_seconds: float


class BackgroundSaves:
    """Saves of one run in a thread of their own, over a group of their own; all processes call each method together.

    A copy of the state is taken in memory, which is used again for the next save. Only then does `begin` return: what is
    written is the state of that moment. Writing, hashing and the manifest are those of `SharedCheckpoints.save_of_all`.

    Args:
        store: Where checkpoints lie.

    Attributes:
        refusal: Why the last `begin` did nothing; empty where it began.
    """

    def __init__(self, store: SharedCheckpoints) -> None:
        self._store, self._world = store, store.world
        self._aside: SharedCheckpoints | None = None  # its group is made when it is needed
        self._flight: _Flight | None = None
        self._copies: dict[tuple[str, str], Tensor] = {}
        self._inventory: Any = None
        self.refusal = ""

    def begin(self, samples_seen: int, files: Files, content: Mapping[str, Any], *, shards: bool) -> bool:
        """Begin to save; what was begun before must have been taken by `ended`.

        Args:
            samples_seen: As for `save_of_all`, like `files`, `content` and `shards`.

        Returns:
            False where a copy of the state takes more than a third of a host's free memory. Nothing was done then.

        Raises:
            OpenLdmError: Another process failed.
        """
        started = time.perf_counter()
        if self._flight is not None:
            raise ValueError("a save is under way; needed: `ended` before the next one")
        here = shards or self._world.leads
        if not self._has_room(files, here=here):
            return False
        if self._aside is None:
            self._aside = copy.copy(self._store)  # it shares what is known of damaged ones
            self._aside.world = self._world.beside()
        copied = self._copied(files) if here else {name: {} for name in files}
        save = partial(self._aside.save_of_all, samples_seen, copied, content, shards=shards)
        self._flight = _Flight(save, samples_seen, started)
        return True

    @property
    def under_way(self) -> bool:
        """Whether a save was begun that `ended` has not taken yet."""
        return self._flight is not None

    def ended(self, *, wait: bool = False) -> Done | None:
        """Take what became of the save that was begun.

        Args:
            wait: Until it has ended.

        Returns:
            The save, once it has ended; None where none is under way, or it still is.

        Raises:
            OpenLdmError: It failed; it is under way no more.
        """
        flight = self._flight
        if flight is None or (not wait and flight.thread.is_alive()):
            return None
        flight.thread.join()
        self._flight = None
        return flight.result()

    def leave(self, seconds: float) -> None:
        """Wait so long for what is under way, whatever becomes of it: the run ends by another error."""
        if self._flight is not None:
            self._flight.thread.join(seconds)

    def _has_room(self, files: Files, *, here: bool) -> bool:
        """Whether a copy fits; this is settled once for the same tensors."""
        inventory = {(group, name): (each.shape, each.dtype) for group, part in files.items() for name, each in part.items()}
        if inventory == self._inventory:
            return not self.refusal
        self._inventory, self._copies, self.refusal = inventory, {}, ""
        size = sum(_own(each).nbytes for part in files.values() for each in part.values()) if here else 0
        memory = host_memory()
        told = self._world.gathered((socket.gethostname(), size, None if memory is None else memory[0]), "a look at the memory")
        for host in sorted({name for name, _, _ in told}):
            needed = sum(bytes_there for name, bytes_there, _ in told if name == host)
            free = [room for name, _, room in told if name == host]
            if None in free:
                self.refusal = f"how much memory is free on {host} is not known"
            elif needed * SHARE_OF_FREE_MEMORY > min(room for room in free if room is not None):
                room = min(room for room in free if room is not None)
                self.refusal = f"a copy of {needed / 1e9:.3g} GB is more than a third of the {room / 1e9:.3g} GB free on {host}"
        return not self.refusal

    @torch.no_grad()
    def _copied(self, files: Files) -> dict[str, dict[str, Tensor]]:
        """A copy on the CPU, shards of which are shards too."""
        for group, part in files.items():
            for name, tensor in part.items():
                if (group, name) not in self._copies:
                    self._copies[group, name] = torch.empty_like(tensor.detach(), device="cpu")
        sources = [_own(tensor.detach()) for part in files.values() for tensor in part.values()]
        targets = [_own(self._copies[group, name]) for group, part in files.items() for name in part]
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
        return {group: {name: self._copies[group, name] for name in part} for group, part in files.items()}


class _Flight:
    """One save under way; `save` makes it, and `started` is when training began to wait for its copy."""

    def __init__(self, save: Callable[[], Saved], samples_seen: int, started: float) -> None:
        self._started, self._waited, self._samples_seen = started, time.perf_counter() - started, samples_seen
        self._saved: Saved | None = None
        self._error: BaseException | None = None
        self._ended = started

        def run() -> None:
            """Save, and keep the result or the error for whoever waits."""
            try:
                self._saved = save()
            except BaseException as error:
                self._error = error
            self._ended = time.perf_counter()

        # Nothing waits for it where a process that is lost keeps it from ending.
        self.thread = threading.Thread(target=run, name="save", daemon=True)
        self.thread.start()

    def result(self) -> Done:
        """What was saved. Raises what went wrong, as an error of this process: others may not have come to it yet."""
        if isinstance(self._error, OpenLdmError) and self._error.of_all:
            own = Failure.of(self._error).error()
            own.of_all = False
            raise own from self._error
        if self._error is not None:
            raise self._error
        assert self._saved is not None
        return Done(self._saved, self._samples_seen, self._ended - self._started, self._waited)


def _own(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: its shard, or all of it."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
