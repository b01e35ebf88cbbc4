"""Two tiny models, barely trained: the studio shows whatever a model samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.studio.device_queue import Job
from open_ldm.studio.models import Models
from tests.runs.tiny import DENOISERS, tiny_recipe


def trained(folder: Path, name: str, *overrides: str) -> Path:
    recipe = load_recipe(str(tiny_recipe(folder)), ["training.samples=8", "preview.count=1", f"name={name}", *overrides])
    assert train(recipe, folder / name, silent=True, command=["ldm", "train", "tiny"]).code == 0
    return folder / name


@pytest.fixture(scope="session")
def improved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption model with size, crop, flip and aspect ratio, whose data have a held-out part."""
    return trained(tmp_path_factory.mktemp("studio"), "improved")


@pytest.fixture(scope="session")
def entangled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption model with the size alone."""
    gate = "conditioning.controls=[{kind: original_size, gate: {kind: constant}}]"
    return trained(tmp_path_factory.mktemp("studio"), "entangled", gate)


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class model without controls."""
    settings = ("conditioning.semantic={kind: class}", "conditioning.controls=[]", *DENOISERS["dit"])
    return trained(tmp_path_factory.mktemp("studio"), "classes", *settings)


@pytest.fixture
def models(improved: Path, entangled: Path) -> Models:
    return Models([entangled, improved], "cpu")


def job() -> Job:
    """A job that nobody waits for."""
    return Job(lambda job: None, 0, limit=60.0)
