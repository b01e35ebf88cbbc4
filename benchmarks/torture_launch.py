"""`ldm ARGUMENTS` under torchrun's own agent, whose processes are forked from a server that has the imports.

    python benchmarks/torture_launch.py RANKS MAX_RESTARTS ARGUMENTS ...

Otherwise each start costs seconds of imports on every process, which is most of what a kill costs. Linux only.
"""

from __future__ import annotations

import atexit
import multiprocessing
import sys
from uuid import uuid4

from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def worker(*arguments: str) -> None:
    """One process; torch has set its rank."""
    from open_ldm.cli.main import main

    sys.argv = ["ldm", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a fork ends without them


def main(ranks: int, restarts: int, *arguments: str) -> None:
    multiprocessing.set_forkserver_preload(["tests.preloaded"])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="forkserver",
    )
    elastic_launch(config, worker)(*arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
