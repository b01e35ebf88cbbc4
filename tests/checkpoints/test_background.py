"""A save in the background writes the state of its call, one at a time, and only where a copy fits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.checkpoints import background as module
from open_ldm.checkpoints.background import BackgroundSaves
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.distributed import World
from open_ldm.core.errors import DiskError
from tests.checkpoints.test_checkpoint import RUN, equal, files_at


@pytest.fixture
def store(tmp_path: Path) -> SharedCheckpoints:
    return SharedCheckpoints(tmp_path / "checkpoints", World(), keep=2)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Saves write nothing before this is set."""
    let, real = threading.Event(), CheckpointFolder.save

    def save(*given: Any, **named: Any) -> Any:
        assert let.wait(60)
        return real(*given, **named)

    monkeypatch.setattr(CheckpointFolder, "save", save)
    return let


def test_the_state_of_the_call_is_saved_whatever_becomes_of_it(store: SharedCheckpoints, held: threading.Event) -> None:
    files, saves = files_at(1), BackgroundSaves(store)
    for number in (1, 2, 3):  # the same tensors change from save to save, and so does the copy
        wanted = {group: {name: tensor.clone() for name, tensor in part.items()} for group, part in files.items()}
        held.clear()
        assert saves.begin(number, files, RUN, shards=False)
        files["model"]["weight"].add_(1)
        files["ema"]["count"].add_(1)
        assert saves.ended() is None and f"samples-{number:012d}" not in store.names()
        with pytest.raises(ValueError, match="under way"):
            saves.begin(number + 1, files, RUN, shards=False)
        held.set()
        done = saves.ended(wait=True)
        assert done is not None and done.samples_seen == number and 0 <= done.waited_seconds <= done.seconds
        found, problems = store.newest()
        assert found is not None and not problems and found.path == done.saved.path and equal(found.files, wanted)
    assert saves.ended(wait=True) is None
    assert store.names() == ["samples-000000000003", "samples-000000000002"]


@pytest.mark.parametrize("known", [False, True])
def test_a_copy_takes_a_third_of_the_free_memory_at_most(
    known: bool, store: SharedCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, saves = files_at(1), BackgroundSaves(store)
    size = sum(tensor.nbytes for part in files.values() for tensor in part.values())
    monkeypatch.setattr(module, "host_memory", lambda: (3 * size - 1, 10**9) if known else None)
    assert not saves.begin(1, files, RUN, shards=False) and saves.ended() is None and not store.root.exists()
    assert ("more than a third of the" if known else "not known") in saves.refusal
    monkeypatch.setattr(module, "host_memory", lambda: (3 * size, 10**9))
    assert not saves.begin(1, files, RUN, shards=False)  # settled for these tensors
    files["optimizer"]["moment"] = torch.zeros(0)
    assert saves.begin(1, files, RUN, shards=False) and not saves.refusal
    assert saves.ended(wait=True) is not None


def test_an_error_is_raised_where_the_save_is_taken(store: SharedCheckpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    saves = BackgroundSaves(store)
    with monkeypatch.context() as patched:
        patched.setattr("open_ldm.checkpoints.checkpoint.fsync_path", refuse)
        assert saves.begin(1, files_at(1), RUN, shards=False)
        with pytest.raises(DiskError, match="Input/output error"):
            saves.ended(wait=True)
    assert saves.ended(wait=True) is None and not list(store.root.iterdir())
    assert saves.begin(1, files_at(1), RUN, shards=False) and saves.ended(wait=True) is not None
