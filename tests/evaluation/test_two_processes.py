from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from open_ldm.evaluation.reference import load_statistics
from tests.evaluation.test_statistics import assert_alike
from tests.evaluation.worker import main


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.evaluation.worker", str(tmp_path / "two")],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    main(tmp_path / "one")
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one = load_statistics(tmp_path / "one" / "0")
    lead, other = (load_statistics(tmp_path / "two" / str(rank)) for rank in range(2))
    assert_alike(one, lead)
    for name in ("mean", "scatter"):
        ours, theirs = getattr(lead.moments, name), getattr(other.moments, name)
        assert ours.equal(theirs), "every process has the same bits"
        torch.testing.assert_close(ours, getattr(one.moments, name), rtol=1e-9, atol=1e-9)
    assert len(other.rows) == 0, "single pictures go to one process alone"
    assert other.pictures == one.pictures
