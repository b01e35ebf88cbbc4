"""Processes that work together under torchrun; a single process is a world of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class World:
    """The processes that work together, seen from one of them.

    Attributes:
        rank: Number of this process, 0 to size - 1.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True for the one process that writes."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, as one message.

        Args:
            tensors: Tensors of one dtype and device, of equal shapes in every process; they are changed in place.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag of any process is set; the processes exchange one number and get the same answer.

        Args:
            flag: The flag of this process.
            device: Where the processes exchange tensors: the device of training.

        Returns:
            True where at least one process passed True.
        """
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag), device=device)
        dist.all_reduce(answer, dist.ReduceOp.MAX)
        return bool(answer)

    def gathered(self, value: Any) -> list[Any]:
        """Collect a value from every process.

        Args:
            value: Plain data, of any size.

        Returns:
            The value of every process, in the order of their ranks.
        """
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            dist.barrier()


def join_world(device: torch.device) -> World:
    """Join the world that torchrun's environment describes; a process group is started the first time.

    Args:
        device: Where the processes exchange tensors: NCCL for CUDA, else gloo.

    Returns:
        The world; a world of one without torchrun.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size())
