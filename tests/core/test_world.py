"""Processes that work together: what they must agree on, and what becomes of all when one fails, dies or stops."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.processes import free_port
from tests.started import Started

from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError, StoppedError
from open_ldm.core.failure import Failure, LostProcessError, disagreement

HOST = socket.gethostname()
PATIENCE_SECONDS = 200


def start(what: str, out: Path, seconds: int, more: Mapping[str, str], size: int = 2) -> list[Started]:
    """The processes of a world as tasks of Slurm, whose variables alone tell them of each other."""
    port = str(free_port())
    slurm = {
        "SLURM_NTASKS": str(size),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "MASTER_PORT": port,
    }
    given = {**slurm, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **more}
    out.mkdir(parents=True, exist_ok=True)
    ranks = [{**given, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(size)]
    return [Started("tests.core.ranks", [what, str(out), str(seconds)], each) for each in ranks]


def told(out: Path, rank: int) -> dict[str, Any]:
    return dict(json.loads((out / f"{rank}.json").read_text()))


def test_processes_that_differ_all_end_with_the_same_line(tmp_path: Path) -> None:
    processes = start("agree", tmp_path, 60, {"SECOND_PORT": str(free_port())})
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, errors
    first, second = told(tmp_path, 0), told(tmp_path, 1)
    folders = {name: first.pop(name)[0].split(" writes to ")[0] + second.pop(name)[0][:0] for name in ("folder",)}
    assert first == second
    lines = {name: line for name, (line, _) in first.items()}
    one, other = f"on rank 1 ({HOST})", f"on rank 0 ({HOST})"
    same = "needed: the same on all of them"
    assert lines["recipe"] == (
        f"the processes differ in recipe: training.batch_size=5 {one}, training.batch_size=4 {other}; {same}"
    )
    assert lines["many"].split(": ", 1)[1].startswith(f"training.a=1, training.b=1, training.c=1 {one}")
    assert f"{other} and 2 more" in lines["many"]
    assert lines["checkpoint"] == (
        f"the processes differ in checkpoint: samples-1 {one}, samples-0 {other}; {same}; fix: share one disk"
    )
    assert lines["data"] == f"the processes differ in data: hash 1 {one}, hash 0 {other}; {same}"
    assert lines["version"] == f"the processes differ in version: open_ldm=0.1 {one}, open_ldm=0.0 {other}; {same}"
    assert lines["leader"] == "cannot write x; fix: free some space"
    assert lines["missing"] == f"rank 1 on {HOST}: there is no folder /data; fix: check the path"
    assert "exchange 1" in lines["point"] and "exchange 0" in lines["point"]
    assert folders == {"folder": f"rank 1 on {HOST} does not see what rank 0 on {HOST}"}
    codes = {name: code for name, (_, code) in first.items()}
    assert codes == {
        "recipe": 2, "many": 2, "checkpoint": 65, "data": 65, "leader": 74, "point": 70, "version": 2, "missing": 65,
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="what a process does is read from /proc")
def test_whoever_stops_is_named_after_the_limit(tmp_path: Path) -> None:
    processes = start("wait", tmp_path, 3, {})
    until = time.monotonic() + PATIENCE_SECONDS
    while len(list(tmp_path.glob("at work *"))) < 2:
        assert time.monotonic() < until and all(process.poll() is None for process in processes)
        time.sleep(0.05)
    try:
        processes[1].send_signal(signal.SIGSTOP)
        processes[0].communicate(timeout=PATIENCE_SECONDS)
    finally:
        processes[1].kill()
        processes[1].communicate()
    found = told(tmp_path, 0)
    line, code = found["wait"]
    assert line.startswith(f"rank 1 on {HOST} is stopped by a signal and does not answer; fix: run the same command again")
    assert code == LostProcessError.exit_code and found["words"][0] == line  # whoever is left writes it down


def test_a_world_of_one_changes_nothing(tmp_path: Path) -> None:
    world, seen = World(), []
    error = DataError("no data")
    with pytest.raises(DataError) as raised, world.sharing_errors(seen.append):
        world.agreed("recipe", 1)
        world.require_shared(tmp_path / "not there")
        assert world.everyone(lambda: 3) == 3 and world.gathered(4) == [4]
        raise error
    assert raised.value is error and seen == [error] and not error.of_all


def test_an_error_arrives_as_what_it_was() -> None:
    for error in (StoppedError("stopped by SIGUSR1", fix="again"), ConfigError("bad", needed="good"), OpenLdmError("x")):
        again = Failure.from_json(Failure.of(error).to_json()).error()
        assert type(again) is type(error) and again.one_line() == error.one_line() and again.exit_code == error.exit_code
    lost = Failure.from_json(Failure("LostProcessError", "gone", code=69, lost=(3,)).to_json()).error()
    assert isinstance(lost, LostProcessError) and lost.lost == (3,) and lost.of_all
    unknown = Failure.of(KeyError("x"), "rank 2 on h: ").error()
    assert unknown.one_line() == "rank 2 on h: unexpected KeyError: 'x'; fix: run again with --debug and report what it prints"
    assert Failure.of(MemoryError()).code == 71 and Failure.of(PermissionError(1, "no")).code == 77


def test_long_values_are_shortened_and_equal_ones_are_no_disagreement() -> None:
    assert disagreement("data", [{"a": 1}, {"a": 1}], ["h", "h"]) is None
    error = disagreement("data", ["x" * 500, "y" * 500], ["h", "i"])
    assert error is not None and len(error.one_line()) < 300
