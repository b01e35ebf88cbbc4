"""A trained tiny autoencoder, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.autoencoder.train import train_autoencoder
from tests.runs.autoencoder.tiny import tiny_recipe


def trained(folder: Path, *overrides: str) -> Path:
    recipe = load_autoencoder_recipe(str(tiny_recipe(folder)), overrides)
    command = ["ldm", "autoencoder", "train", "tiny-autoencoder", "--out", str(folder / "run")]
    assert train_autoencoder(recipe, folder / "run", silent=True, command=command).code == 0
    return folder / "run"


@pytest.fixture(scope="session")
def rgb_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three channels."""
    return trained(tmp_path_factory.mktemp("rgb"))


@pytest.fixture(scope="session")
def grey_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one channel, with the end alone checked."""
    return trained(tmp_path_factory.mktemp("grey"), "network.in_channels=1", "training.preview_every_samples=0")
