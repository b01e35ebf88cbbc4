"""Threads by the cores that a process may use; the user's own numbers stay, and a run keeps the one it began with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from open_ldm.core import threads, waiting
from open_ldm.core.device import choose_device, configure_process
from open_ldm.core.threads import cgroup_cores, environment_of, fit_threads, given_threads, keep_threads, usable_cores
from open_ldm.core.waiting import SPINS_ALONE, SPINS_SHARED
from open_ldm.training.ahead import depth_ahead

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Eight cores, of which a cgroup gives the time of two and a half; torch has as many threads as there are cores."""
    torch_has = {"threads": 8}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LDM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_cores", lambda: 2.5)
    monkeypatch.setattr(threads, "is_late", False)
    monkeypatch.setattr(threads, "_changed", threads._Changed())
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_has["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: torch_has.update(threads=number))
    return torch_has


def cgroup(tmp_path: Path, own: str, files: Mapping[str, str] | None = None) -> float | None:
    (tmp_path / "own").write_text(own)
    for name, content in (files or {}).items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return cgroup_cores(tmp_path / "cgroup", tmp_path / "own")


def test_the_least_limit_of_a_group_and_those_above_counts(tmp_path: Path) -> None:
    above = {"cpu.max": "max 100000\n", "pod/cpu.max": "250000 100000\n", "pod/box/cpu.max": "max 100000\n"}
    assert cgroup(tmp_path, "0::/pod/box\n", above) == 2.5
    assert cgroup(tmp_path, "0::/pod/box\n", {"pod/box/cpu.max": "50000 100000\n"}) == 0.5
    assert cgroup(tmp_path, "0::/elsewhere\n") is None
    assert cgroup(tmp_path, "0::/outside/the/namespace\n", {"cpu.max": "300000 100000\n"}) == 3


def test_limits_of_version_1_and_none_at_all(tmp_path: Path) -> None:
    v1 = {"cpu/docker/cpu.cfs_quota_us": "150000\n", "cpu/docker/cpu.cfs_period_us": "100000\n"}
    assert cgroup(tmp_path, "4:memory:/docker\n2:cpu,cpuacct:/docker\n", v1) == 1.5
    assert cgroup(tmp_path, "2:cpu:/docker\n", {"cpu/docker/cpu.cfs_quota_us": "-1\n"}) is None
    assert cgroup(tmp_path, "no lines of a cgroup\n") is None
    assert cgroup_cores(tmp_path / "absent", tmp_path / "absent") is None


def test_cores_are_those_of_affinity_and_limit(machine: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() == 3
    for limit, cores in ((0.2, 1), (20.0, 8), (None, 8)):
        monkeypatch.setattr(threads, "cgroup_cores", lambda limit=limit: limit)
        assert usable_cores() == cores
    monkeypatch.setattr(threads, "cgroup_cores", lambda: 2.0)
    machine["threads"] = 2
    assert depth_ahead(CPU, 1) == 0


def test_a_process_takes_its_cores_and_a_run_what_it_began_with(machine: dict[str, int]) -> None:
    configure_process(choose_device("cpu", "float32"))
    assert machine["threads"] == 3
    (said,) = keep_threads({"threads": "2"}, CPU)
    assert machine["threads"] == 2 and said.startswith("2 threads, with which this run began; 3 would be used here")
    fit_threads()  # a new run in the same process
    assert machine["threads"] == 3
    assert [keep_threads(saved, CPU) for saved in ({"threads": "3"}, {}, {"threads": "9"})] == [(), (), ()]
    assert machine["threads"] == 3
    keep_threads({"threads": "8"}, CPU)  # as a run had that began before limits of a cgroup counted
    assert machine["threads"] == 8


def test_what_the_user_says_stays(machine: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    machine["threads"] = 2  # by torch.set_num_threads
    fit_threads()
    assert machine["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    machine["threads"] = 7
    fit_threads()
    assert keep_threads({"threads": "2"}, CPU) == () and machine["threads"] == 7 and environment_of(4) == {}


def test_what_one_ldm_chose_for_another_is_not_the_users(machine: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(4).items():
        monkeypatch.setenv(name, value)
    assert not given_threads() and environment_of(2)["OMP_NUM_THREADS"] == "2"
    machine["threads"] = 2
    assert keep_threads({"threads": "1"}, CPU) and machine["threads"] == 1


LOAD = """
import ctypes, importlib.util, pathlib
import open_ldm
folder = pathlib.Path(importlib.util.find_spec("torch").submodule_search_locations[0]) / "lib"
for file in folder.glob("libgomp*.so*"):
    ctypes.CDLL(str(file))
"""
"""What `import torch` loads of OpenMP, without the rest."""


@pytest.mark.parametrize(("given", "spins"), [({}, (SPINS_ALONE, SPINS_SHARED)), ({"OMP_WAIT_POLICY": "PASSIVE"}, ("0",))])
def test_openmp_reads_how_threads_wait(given: dict[str, str], spins: tuple[str, ...]) -> None:
    told = {**bare_environment(), **given, "OMP_DISPLAY_ENV": "VERBOSE"}
    printed = subprocess.run([sys.executable, "-c", LOAD], env=told, capture_output=True, text=True, timeout=120, check=True)
    if "GOMP_SPINCOUNT" not in printed.stderr:
        pytest.skip("this torch brings another OpenMP than GNU's")
    assert any(f"GOMP_SPINCOUNT = '{count}'" in printed.stderr for count in spins)


def test_threads_wait_awake_for_long_where_no_other_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = tmp_path / "loadavg"
    monkeypatch.setattr(waiting, "_LOAD", str(load))
    monkeypatch.setattr(waiting, "is_said", False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # given back at the end
    for running, spins in ((1, SPINS_ALONE), (2, SPINS_ALONE), (3, SPINS_SHARED)):  # one is this program, and one core is free
        load.write_text(f"9.50 9.50 9.50 {running}/99 1234\n")
        waiting.wait_briefly()
        assert os.environ["GOMP_SPINCOUNT"] == spins
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    waiting.wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS_ALONE  # two threads of three programs
    load.unlink()  # no Linux
    waiting.wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS_ALONE


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}


def test_torch_before_open_ldm_is_said_on_a_cpu_alone(machine: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "is_late", True)
    (said,) = keep_threads({}, CPU)
    assert said.endswith("import open_ldm first") and keep_threads({}, torch.device("meta")) == ()
    script = "import sys\nsys.modules['torch'] = sys\nfrom open_ldm.core.waiting import is_late\nassert is_late == %s"
    for given, late in (({}, True), ({"GOMP_SPINCOUNT": "7"}, False)):
        environment = {**bare_environment(), **given}
        subprocess.run([sys.executable, "-c", script % late], env=environment, timeout=120, check=True)
