"""Processes that work together under torchrun or Slurm; a single process is a world of one.

Tensors of training go through a data group (NCCL on CUDA, else gloo). Everything else, such as an agreement, a flag or a plain
value, goes through a control group of gloo beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import torch
from torch import Tensor
from torch import distributed as dist

import open_ldm
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.failure import Failure, disagreement
from open_ldm.core.files import write_text
from open_ldm.core.launch import find_launch

if TYPE_CHECKING:
    from open_ldm.core.peers import Peers

TIMEOUT_SECONDS = 1800
"""The longest wait for another process, where no recipe says how long."""
_SHORT_SECONDS = 15
_TOKEN, _LOOKS, _LOOK_SECONDS = ".shared", 30, 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that work together, seen from one of them.

    Attributes:
        rank: Number of this process, 0 to size - 1.
        size: Number of processes.
        peers: Tells what became of the others, and has the control group; None in a world of one.
        aside: The control group of a thread of its own; see `beside`.
    """

    rank: int = 0
    size: int = 1
    peers: Peers | None = field(default=None, repr=False, compare=False)
    aside: Any = field(default=None, repr=False, compare=False)

    @property
    def leads(self) -> bool:
        """True for the one process that writes."""
        return self.rank == 0

    def waiting(self, name: str) -> AbstractContextManager[None]:
        """Context manager around an exchange; where that breaks, its error says which process is to blame."""
        return nullcontext() if self.peers is None else self.peers.waiting(name, aside=self.aside is not None)

    def beside(self) -> World:
        """Return the same processes for use in another thread, with a control group of its own; all call this together."""
        if self.peers is None:
            return self
        with self.waiting("a group for another thread"):
            return replace(self, aside=dist.new_group(backend="gloo", timeout=self.peers.timeout))

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, as one message.

        Args:
            tensors: Tensors of one dtype and device, of equal shapes in every process; they are changed in place.

        Raises:
            OpenLdmError: Another process failed or does not answer; it is named.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self.waiting("the sum of gradients"):
            dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any process is set; all processes get the same answer. Errors as for `sum_`."""
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag))
        with self.waiting("the next update"):
            dist.all_reduce(answer, dist.ReduceOp.MAX, group=self.control)
        return bool(answer)

    def gathered(self, value: T, name: str = "an exchange") -> list[T]:
        """Collect a value from every process.

        Args:
            value: Plain data, of any size.
            name: What is collected, in errors. Every process must be at the same exchange.

        Returns:
            The value of every process, in the order of their ranks.

        Raises:
            OpenLdmError: Another process failed, does not answer, or is at another exchange; it is named.
        """
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.waiting(name):
            dist.all_gather_object(values, (name, value), group=self.control)
        self._require_equal("what they do", [at for at, _ in values], OpenLdmError)
        return [each for _, each in values]

    def agreed(self, name: str, value: Any, kind: type[OpenLdmError] = ConfigError, fix: str = "") -> None:
        """Refuse to go on where the processes have different values.

        Args:
            name: What the value is, such as the recipe.
            value: Plain data. Mappings are compared entry by entry, so that the error names what differs.
            kind: Class of the error.
            fix: What to do then.

        Raises:
            OpenLdmError: The values differ: the same error on every process, with the rank and the host that differ.
        """
        if self.size > 1:
            self._require_equal(name, self.gathered(value, name), kind, fix)

    def everyone(self, action: Callable[[], T], name: str = "what rank 0 does") -> T:
        """Let the leading process act while the others wait.

        Args:
            action: Called in the leading process alone. It returns plain data.
            name: What it does, in errors.

        Returns:
            What the action returned, on every process.

        Raises:
            OpenLdmError: The action failed: every process raises its error, in its own words.
        """
        if self.size == 1:
            return action()
        failure, value, cause = None, None, None
        if self.leads:
            try:
                value = action()
            except Exception as error:
                failure, cause = Failure.of(error), error
        failure, value = self.gathered((failure, value), name)[0]
        if failure is not None:
            raise failure.error() from cause
        return value  # type: ignore[return-value]  # of the leading process, which returned one

    def barrier(self, name: str = "a meeting") -> None:
        """Wait until every process has reached this call; errors as for `gathered`."""
        self.gathered(None, name)

    def require_shared(self, folder: Path) -> None:
        """Refuse a folder that only some of the processes see: what one writes there, the others must read.

        Args:
            folder: As this process names it; it exists where the leading process runs.

        Raises:
            ConfigError: A process does not see the leading process's folder; the same error on every process.
        """
        if self.size == 1:
            return
        token = self.everyone(lambda: _write_token(folder), "a look at the folder")
        seen = self.gathered(_sees(folder / _TOKEN, token), "a look at the folder")
        if self.leads:
            (folder / _TOKEN).unlink(missing_ok=True)
        if not all(seen):
            rank = seen.index(False)
            error = ConfigError(
                f"{self.name_of(rank)} does not see what {self.name_of(0)} writes to {folder}",
                needed="one folder on a disk that all processes share",
                fix="choose --out on a shared disk",
            )
            raise Failure.of(error).error()

    @contextmanager
    def sharing_errors(self, last_words: Callable[[BaseException], None] | None = None) -> Iterator[None]:
        """Context manager that tells the other processes of an error in this one, so that all end with it.

        Args:
            last_words: Called with the error that the run ends with, to write it down: on the leading process, or on the first
                one that is left.

        Raises:
            OpenLdmError: The error of this process with rank and host, or that of the process that failed first. In a world
                of one every error stays as it is.
        """
        words, peers = last_words or _say_nothing, self.peers
        if peers is not None:
            peers.last_words.append(words)
        try:
            yield
        except BaseException as error:
            told = error if peers is None else peers.tell(error)
            if peers is None or peers.speaks(told):
                words(told)
            if told is error:
                raise
            raise told from error
        finally:
            if peers is not None:
                peers.last_words.pop()

    def name_of(self, rank: int) -> str:
        """Return a process's rank and host in words: 'rank 3 on node-1'."""
        return f"rank {rank} on {self._hosts[rank]}"

    @property
    def _hosts(self) -> Sequence[str]:
        return ["?"] * self.size if self.peers is None else self.peers.hosts

    @property
    def control(self) -> Any:
        """The group for everything but tensors of training; None in a world of one."""
        return self.aside or (None if self.peers is None else self.peers.control)

    def _require_equal(self, name: str, values: Sequence[Any], kind: type[OpenLdmError], fix: str = "") -> None:
        error = disagreement(name, values, self._hosts)
        if error is not None:
            raise Failure.of(kind(error.problem, needed=error.needed, fix=fix)).error()


_joined: World | None = None


def join_world(device: torch.device, timeout_seconds: float = TIMEOUT_SECONDS) -> World:
    """Join the processes that torchrun or Slurm started with this one; groups are made the first time.

    Args:
        device: Where tensors of training lie: the data group is NCCL for CUDA, else gloo.
        timeout_seconds: The longest wait for another process.

    Returns:
        The world; a world of one for a process that was started alone.

    Raises:
        ConfigError: The processes have different versions, or Slurm started several that cannot find each other.
        LostProcessError: A process did not come.
    """
    global _joined
    if _joined is None:
        launch = find_launch()
        if launch.size == 1:
            return World()
        from open_ldm.core.peers import Peers

        peers = Peers(launch, timeout_seconds, {"open_ldm": open_ldm.__version__, "torch": torch.__version__})
        peers.arrive()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with peers.waiting("joining"):
            backend = "nccl" if device.type == "cuda" else "gloo"
            more: dict[str, Any] = {"rank": launch.rank, "world_size": launch.size, "timeout": peers.timeout}
            dist.init_process_group(backend, store=peers.store.groups, **more)
            peers.control = dist.new_group(backend="gloo", timeout=peers.timeout)
        _joined = World(launch.rank, launch.size, peers)
    return _joined


def told_to_all(error: Exception) -> Exception:
    """Tell the other processes of an error that came before this one joined them, or outside of `sharing_errors`.

    Args:
        error: What this process ends with.

    Returns:
        What all of them end with; the error itself in a process that was started alone.
    """
    from open_ldm.core.peers import Peers

    try:
        launch = find_launch()
        if launch.size == 1:
            return error
        peers = Peers(launch, _SHORT_SECONDS, {}) if _joined is None or _joined.peers is None else _joined.peers
    except OpenLdmError:
        return error  # this process cannot find the others: what it has to say counts
    return peers.tell(error)


def _say_nothing(error: BaseException) -> None:
    """No last words."""


def _write_token(folder: Path) -> str:
    token = uuid4().hex
    write_text(folder / _TOKEN, token)
    return token


def _sees(file: Path, text: str) -> bool:
    """Whether a file that another machine has just written holds this text; disks of a network may take a moment to show it."""
    for _ in range(_LOOKS):
        with suppress(OSError):  # not there yet
            if file.read_text(encoding="utf-8") == text:
                return True
        time.sleep(_LOOK_SECONDS)
    return False
