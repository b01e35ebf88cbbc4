"""Processes of one world, as torchrun would start them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.started import Started

PATIENCE_SECONDS = 280


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_processes(module: str, arguments: Sequence[str], size: int) -> list[Started]:
    """`python -m MODULE ARGUMENTS`, once for each rank."""
    given = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    ranks = [{**given, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    return [Started(module, arguments, each) for each in ranks]


def finish(processes: Sequence[Started]) -> str:
    """Wait until all have ended well; what they wrote to stderr, one after the other."""
    told = []
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        told.append(errors.decode())
        assert process.returncode == 0, told[-1]
    return "".join(told)
