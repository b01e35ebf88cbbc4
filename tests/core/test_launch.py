"""How a process was started, and with which others."""

from __future__ import annotations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.core.launch import Launch, find_launch, first_host, local_rank

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
STEP = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}


def test_alone_under_torchrun_and_under_srun() -> None:
    assert find_launch({}) == Launch() and local_rank({}) is None
    assert find_launch(TORCHRUN) == Launch(3, 8, "a", 29500) and local_rank(TORCHRUN) == 1
    found = find_launch(STEP)
    assert (found.rank, found.size, found.address, local_rank(STEP)) == (5, 8, "gpu03", 1)
    assert {find_launch({**STEP, "SLURM_PROCID": str(rank)}).port for rank in range(8)} == {found.port}
    assert find_launch({**STEP, "SLURM_STEP_ID": "1"}).port != found.port
    assert find_launch({**STEP, "MASTER_ADDR": "b", "MASTER_PORT": "4000"}).address == "b"
    assert find_launch({**STEP, **TORCHRUN}) == Launch(3, 8, "a", 29500)  # torchrun inside a task
    assert find_launch({**STEP, "WORLD_SIZE": "1"}).size == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "1"},
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun -n 1 in a larger job
    ],
)
def test_one_task_is_alone(environment: dict[str, str]) -> None:
    assert find_launch(environment) == Launch() and local_rank(environment) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "a"}, "put srun in front"),
        ({**STEP, "SLURM_STEP_NODELIST": ""}, "set MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR, MASTER_PORT is not set.*torchrun --nproc-per-node"),
    ],
)
def test_lone_trainings_are_refused_where_several_processes_were_meant(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_launch(environment)


def test_first_host_of_a_list() -> None:
    hosts = {"gpu[03-05,9],login": "gpu03", "a1,b2": "a1", "rack[1-2]n[07,9]": "rack1n07", "one": "one", "": ""}
    assert {nodes: first_host(nodes) for nodes in hosts} == hosts
