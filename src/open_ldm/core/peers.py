"""The processes of a run watch one another: who failed and why, and who gives no answer.

Beside the groups that exchange tensors, every process is connected to the store of torch's rendezvous. A thread writes a sign
of life there every second and reads those of the others, so that a death is noticed and named whatever the main thread waits
for. The first failure that is written down is what every process ends with.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from open_ldm.core.errors import OpenLdmError
from open_ldm.core.failure import Failure, LostProcessError, disagreement
from open_ldm.core.launch import Launch, leave_code, process_state
from open_ldm.core.signals import uncut
from open_ldm.core.store import Store

_BEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_SILENT_BEATS = 4
"""A process that gives no sign of life for so long after an exchange broke is the one that broke it."""
_GRACE_SECONDS = 5.0
"""For so long the main thread may find out by itself that the run has failed; then the watching thread ends the process."""
_ANSWER_SECONDS = 10.0
_BACKUP_SECONDS = 20.0
"""A main thread that waits names who is silent at the limit; so much later the watching thread does, for one that cannot."""
_FAILURE = "failure"
_AGAIN = "run the same command again: it goes on from what was kept"

Table = list[dict[str, Any]]
E = TypeVar("E", bound=BaseException)


class Peers:
    """The processes of a run, seen from one of them.

    Args:
        launch: The place of this process.
        timeout_seconds: The longest wait for another process.
        versions: What must be equal on all of them, by name.

    Attributes:
        control: The group for everything but tensors of training.
        last_words: Called with the error, the last one first, before the watching thread ends the process.

    Raises:
        ConfigError: The versions differ.
        LostProcessError: A process did not come.
    """

    def __init__(self, launch: Launch, timeout_seconds: float, versions: Mapping[str, str]) -> None:
        self.rank, self.size, self.timeout = launch.rank, launch.size, timedelta(seconds=timeout_seconds)
        self.host = socket.gethostname()
        self.control: Any = None
        self.last_words: list[Callable[[BaseException], None]] = []
        self._me: dict[str, Any] = {"host": self.host, "pid": os.getpid(), "state": "here", "beat": 0, "calls": 0}
        self._me["versions"] = dict(versions)
        self._rank_0_keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
        self._hosts, self._lost = ["?"] * launch.size, tuple[int, ...]()
        self._arrived: Table = []
        self._settled, self._ended = threading.Event(), threading.Event()
        self.store = self._connected(launch, _ANSWER_SECONDS)
        self._watched = self._connected(launch, timeout_seconds + _BACKUP_SECONDS)  # the watching thread has its own
        self._publish(self.store)
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()
        atexit.register(self.leave)

    def arrive(self) -> None:
        """Wait until every process is there; errors as for the class."""
        until = time.monotonic() + self.timeout.total_seconds()
        while missing := [rank for rank in range(self.size) if not self.store.has(_key(rank))]:
            if failure := self._told(self.store):
                raise self._settle(failure)
            if time.monotonic() > until:
                names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
                raise self._settle(
                    self._decide(self._loss(missing, f"rank {names} of {self.size} did not come{self._limit()}"))
                )
            time.sleep(_LOOK_SECONDS)
        table = self._table(self.store)
        self._arrived, self._hosts = table, [str(each["host"]) for each in table]
        if error := disagreement("version", [each["versions"] for each in table], self._hosts):
            raise self._settle(Failure.of(error))

    @property
    def hosts(self) -> Sequence[str]:
        """The host of each process."""
        return self._hosts

    @contextmanager
    def waiting(self, name: str, *, aside: bool = False) -> Iterator[None]:
        """Context manager around an exchange; where it breaks, the error says whose fault that is.

        An error that is this process's own, such as a lack of memory in a backward pass that exchanges gradients, stays.
        An exchange `aside` is of another thread than the main one, which ends the process.
        """
        self._me["calls"] += not aside
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            failure = self._found(name, error)
            raise (failure.error() if aside else self._settle(failure)) from error

    def tell(self, error: E) -> E | OpenLdmError:
        """Tell the other processes of an error of this one, and wait a moment until they know.

        Args:
            error: What ended the work of this process.

        Returns:
            The error that all end with: this one with rank and host, or that of the process that failed first.
        """
        if isinstance(error, OpenLdmError) and error.of_all:
            return error
        failure = Failure.of(error, f"rank {self.rank} on {self.host}: ")
        with suppress(RuntimeError):
            failure = self._decide(failure)
        told = self._settle(failure)
        with uncut():
            self._close_groups()  # whoever waits for this process stops waiting
            self._wait_until({"heard", "left"}, _GRACE_SECONDS + 2, failure.lost)
        return told

    def speaks(self, error: BaseException) -> bool:
        """Return whether this process writes down how the run ended: the first one that is left."""
        lost = error.lost if isinstance(error, LostProcessError) else ()
        return self.rank == min(rank for rank in range(self.size) if rank not in lost)

    def leave(self) -> None:
        """Say that this process ends well; the one that keeps the store stays until the others have read that."""
        if self._ended.is_set():
            return
        lasted = not self._settled.is_set()
        self._settled.set()
        self._ended.set()
        self._me["state"] = "left"
        with suppress(RuntimeError):
            self._publish(self.store)
        if self._rank_0_keeps_store and self.rank == 0:
            self._wait_until({"left"}, 2 * _GRACE_SECONDS, self._lost)
        if lasted and dist.is_initialized():
            dist.destroy_process_group()

    def _connected(self, launch: Launch, answer_seconds: float) -> Store:
        launch.export()
        try:
            return Store(self.timeout.total_seconds(), answer_seconds)
        except RuntimeError as error:
            raise LostProcessError(
                f"rank {self.rank} on {self.host} cannot reach {launch.address}:{launch.port}{self._limit()}",
                needed="the host and the port of the process of rank 0, and a port that is free there",
                fix="check MASTER_ADDR and MASTER_PORT",
            ) from error

    def _publish(self, store: Store) -> None:
        self._me["beat"] += 1
        store.write(_key(self.rank), json.dumps(self._me))

    def _table(self, store: Store) -> Table:
        """What each process said last. Raises RuntimeError where the store is gone."""
        return [json.loads(text) for text in store.read([_key(rank) for rank in range(self.size)])]

    def _told(self, store: Store) -> Failure | None:
        return Failure.from_json(store.read([_FAILURE])[0]) if store.has(_FAILURE) else None

    def _decide(self, failure: Failure) -> Failure:
        """Write a failure down; the one that is written down first counts."""
        return Failure.from_json(self.store.write_first(_FAILURE, failure.to_json()))

    def _settle(self, failure: Failure) -> OpenLdmError:
        """The error to end with. From here on the main thread ends the process."""
        self._settled.set()
        self._me["state"] = "heard"
        with suppress(RuntimeError):
            self._publish(self.store)
        self._lost = failure.lost
        leave_code(failure.code)  # now: a launcher's SIGTERM may come before the process has ended by itself
        return failure.error()

    def _limit(self) -> str:
        return f" within {self.timeout.total_seconds():g} s (parallel.timeout_seconds)"

    def _loss(self, ranks: Sequence[int], problem: str) -> Failure:
        return Failure(LostProcessError.__name__, problem, fix=_AGAIN, code=LostProcessError.exit_code, lost=tuple(ranks))

    def _found(self, name: str, error: RuntimeError) -> Failure:
        """Why an exchange broke: what another process has said, or which one says nothing any more."""
        with uncut():
            try:
                before, until = self._table(self.store), time.monotonic() + _SILENT_BEATS * _BEAT_SECONDS
                while time.monotonic() < until:
                    if failure := self._told(self.store):
                        return failure
                    if any(self._is_dead(each) for each in before):
                        break
                    time.sleep(_LOOK_SECONDS)
                now = self._table(self.store)
                return self._told(self.store) or self._decide(self._diagnosed(name, before, now, error))
            except RuntimeError:
                return self._store_lost()

    def _diagnosed(self, name: str, before: Table, now: Table, error: RuntimeError) -> Failure:
        others = [rank for rank in range(self.size) if rank != self.rank and now[rank]["state"] != "left"]
        dead = [rank for rank in others if self._is_dead(now[rank])]
        silent = dead or [rank for rank in others if now[rank]["beat"] == before[rank]["beat"]]
        if silent:
            return self._silence(silent, now)
        if gone := [rank for rank in range(self.size) if now[rank]["state"] == "left"]:
            return self._loss((), f"{self._named(gone)} ended before {name}")
        if late := [rank for rank in others if now[rank]["calls"] < self._me["calls"]]:
            words = "is alive, but did not come to" if len(late) == 1 else "are alive, but did not come to"
            return self._loss((), f"{self._named(late)} {words} {name}{self._limit()}")
        text = " ".join(str(error).split())[:150]
        return self._loss((), f"the connection of rank {self.rank} on {self.host} to the others broke at {name} ({text})")

    def _silence(self, ranks: Sequence[int], table: Table) -> Failure:
        first = table[ranks[0]]
        if self._is_dead(first):
            cause = "ended without a word: it was killed, perhaps for want of memory"
        elif first["host"] == self.host and process_state(int(first["pid"])) in ("T", "t"):
            cause = "is stopped by a signal and does not answer"
        else:
            cause = "gives no sign of life: it was killed or stopped, or its machine is down"
        return self._loss(ranks, f"{self._named(ranks)} {cause}")

    def _named(self, ranks: Sequence[int]) -> str:
        more = f" (and {len(ranks) - 1} more)" if len(ranks) > 1 else ""
        return f"rank {ranks[0]} on {self._hosts[ranks[0]]}{more}"

    def _store_lost(self) -> Failure:
        """The store does not answer: that of the process of rank 0, or that of torchrun's agent beside it."""
        if self._arrived and self.rank and (self._rank_0_keeps_store or self._is_dead(self._arrived[0])):
            return self._silence([0], self._arrived)
        return self._loss((0,) if self.rank else (), "torchrun on the machine of rank 0, by which all find each other, is gone")

    def _is_dead(self, each: Mapping[str, Any]) -> bool:
        """Whether a process of this machine has ended without saying so."""
        return each["host"] == self.host and each["state"] == "here" and process_state(int(each["pid"])) in ("", "Z", "X")

    def _wait_until(self, states: set[str], seconds: float, lost: Sequence[int] = ()) -> None:
        until = time.monotonic() + seconds
        with suppress(RuntimeError):
            while time.monotonic() < until:
                keys = [_key(rank) for rank in range(self.size) if rank not in (self.rank, *lost)]
                here = [json.loads(text) for text in self.store.read([key for key in keys if self.store.has(key)])]
                if len(here) == len(keys) and all(each["state"] in states or self._is_dead(each) for each in here):
                    return
                time.sleep(_LOOK_SECONDS)

    def _close_groups(self) -> None:
        """Close the connections of gloo, at which others may be waiting. NCCL may wait for them itself, and is left alone."""
        self.control = None
        with suppress(Exception):
            if dist.is_initialized() and dist.get_backend() == "gloo":
                dist.destroy_process_group()

    def _watch(self) -> None:
        """What the watching thread does until the process ends or the run has failed."""
        since: dict[int, tuple[int, float]] = {}
        looked = time.monotonic()
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                self._publish(self._watched)
                failure = self._told(self._watched)
                if failure is None and "?" not in self._hosts:
                    if time.monotonic() - looked > 5 * _BEAT_SECONDS:
                        since.clear()  # this process was stopped itself, and knows nothing of that time
                    looked = time.monotonic()
                    table = self._table(self._watched)
                    if silent := self._silent(table, since):
                        text = self._watched.write_first(_FAILURE, self._silence(silent, table).to_json())
                        failure = Failure.from_json(text)
            except RuntimeError:
                failure = self._store_lost()
            if failure is not None and not self._ended.is_set():
                self._end_with(failure)
                return

    def _silent(self, table: Table, since: dict[int, tuple[int, float]]) -> list[int]:
        """Processes that are dead, or gave no sign of life within the limit; `since`: their last sign and when it came."""
        now = time.monotonic()
        for rank, each in enumerate(table):
            if rank not in since or since[rank][0] != each["beat"]:
                since[rank] = each["beat"], now
        here = [rank for rank, each in enumerate(table) if each["state"] == "here"]
        limit = self.timeout.total_seconds() + _BACKUP_SECONDS
        return [rank for rank in here if self._is_dead(table[rank])] or [rank for rank in here if now - since[rank][1] > limit]

    def _end_with(self, failure: Failure) -> None:
        """End the process, unless its main thread has heard of the failure and does so itself."""
        if self._settled.wait(_GRACE_SECONDS):
            return
        error = self._settle(failure)
        for words in reversed(self.last_words if self.speaks(error) else []):
            with suppress(Exception):
                words(error)
        print(f"error: {error.one_line()}", file=sys.stderr, flush=True)
        leave_code(error.exit_code)
        os._exit(error.exit_code)


def _key(rank: int) -> str:
    return f"rank{rank}"
