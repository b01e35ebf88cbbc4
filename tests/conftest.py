"""What holds for every test: one thread a process, a working folder of its own, and a home that is nobody's.

One thread: the tests use tiny networks, and threads that wait for each other on a busy machine are slow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

from tests import longest_first, started
from tests.sketches import _drawn, _sketched  # noqa: F401
from tests.without_browser import pytest_collection_modifyitems, pytest_unconfigure  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere, whatever an earlier run found or left behind, and no clock decides.
hypothesis.settings.register_profile("suite", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """With the order of tests/longest_first.py."""
    longest_first.pytest_configure(config)
    config.pluginmanager.register(longest_first)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the caller's folder and caches are seen, nor those of the tests by the caller.

    It comes before every other fixture, so it is also where the fixtures of sessions and modules work. Programs that a test
    starts find this repository from wherever they are.
    """
    folder = tmp_path_factory.mktemp("home")
    paths = [str(ROOT), *(str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("HOME", str(folder))
        patch.setenv("USERPROFILE", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in `tmp_path`."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def forked_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickles are read in processes of their own that cost no imports; tests/commands/test_import_export.py starts one anew."""
    from open_ldm.interop import files

    instead = SimpleNamespace(run=started.run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(files, "subprocess", instead)


@pytest.fixture(autouse=True)
def _own_float32_products() -> Iterator[None]:
    """What a test configures its process to, as a training does, is not there for the next: it moves the last bits of sums."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_float32_matmul_precision("highest")
