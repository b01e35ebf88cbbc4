"""The pictures, shards and folders of the data floor, for the tests of what reads them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.data.conftest import encoder, image_maker, own_cache, real_data_folder, tar_maker

__all__ = ["encoder", "image_maker", "own_cache", "real_data_folder", "tar_maker"]


@pytest.fixture(name="no_hub")
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reaches the hub, and the cache of `datasets` is new."""
    datasets = pytest.importorskip("datasets")
    connect = socket.socket.connect

    def refuse(this: socket.socket, place: Any) -> None:
        assert this.family == socket.AF_UNIX, "a local table opened a connection"
        connect(this, place)  # between processes of this machine

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    datasets.disable_progress_bars()
