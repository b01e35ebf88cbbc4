"""Exchanges between processes of what would be too large for every process to hold from all the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor
from torch import distributed as dist

from open_ldm.core.distributed import World

T = TypeVar("T")


def sum_on_cpu(world: World, tensor: Tensor, name: str) -> None:
    """Replace a tensor of the CPU by its sum over all processes.

    Args:
        world: The processes.
        tensor: Of one shape and dtype in every process; it is changed in place, to the same bits everywhere.
        name: What is added, in errors.

    Raises:
        OpenLdmError: Another process failed or does not answer; it is named.
    """
    if world.size > 1:
        with world.waiting(name):
            dist.all_reduce(tensor, group=world.control)


def to_lead(world: World, parts: Iterator[T], name: str) -> Iterator[T]:
    """Bring plain data to the leading process, one part at a time and one process after the other.

    Args:
        world: The processes; all of them take what this gives to its end.
        parts: Those of this process, of any number; the leading process's own are not sent.
        name: What is brought, in errors.

    Yields:
        In the leading process the parts of all others, in the order of their ranks; nothing elsewhere.

    Raises:
        OpenLdmError: As `sum_on_cpu`.
    """
    for rank in range(1, world.size):
        if world.leads:
            while (part := _received(world, rank, name)) is not None:
                yield part[0]
        elif world.rank == rank:
            for part in parts:
                _send(world, (part,), name)
            _send(world, None, name)
    world.barrier(name)


def _send(world: World, value: Any, name: str) -> None:
    with world.waiting(name):
        dist.send_object_list([value], dst=0, group=world.control)


def _received(world: World, rank: int, name: str) -> Any:
    values: list[Any] = [None]
    with world.waiting(name):
        dist.recv_object_list(values, src=rank, group=world.control)
    return values[0]
