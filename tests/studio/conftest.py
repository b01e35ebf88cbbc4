"""Tiny models, barely trained, with no weight left at its constant start, so that every control changes the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.checkpoints.checkpoint import FOR_SAMPLING, CheckpointFolder
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.studio.device_queue import Job
from open_ldm.studio.models import Models
from tests.cli.test_metadata_controls import paint
from tests.helpers import randomise
from tests.runs.tiny import DENOISERS, tiny_recipe


def trained(folder: Path, name: str, *overrides: str) -> Path:
    recipe = load_recipe(str(tiny_recipe(folder)), ["training.samples=8", "preview.count=1", f"name={name}", *overrides])
    run = folder / name
    assert train(recipe, run, silent=True, command=["ldm", "train", "tiny"]).code == 0
    loaded, folder_of = load_model(run, "cpu"), CheckpointFolder(run / "checkpoints", required=FOR_SAMPLING)
    content = {
        key: value for key, value in folder_of.newest(())[0].content.items() if key in ("recipe", "facts", "latent_stats")
    }
    folder_of.save(9, {"ema": randomise(loaded.model).state_dict()}, content)
    return run


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


@pytest.fixture(scope="session")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of columns of metadata, a number and a category, and of flip, without a prompt."""
    folder = tmp_path_factory.mktemp("studio")
    controls = "{kind: metadata, column: magnification}, {kind: metadata, column: stain}, {kind: flip}"
    settings = ("conditioning.semantic={kind: none}", f"conditioning.controls=[{controls}]", *DENOISERS["dit"])
    data = f"data.source={{kind: folder, path: {paint(folder / 'pictures')}, columns: {{file_name: path}}}}"
    return trained(folder, "columns", data, "data.holdout=null", "data.order=null", *settings)


@pytest.fixture
def models(improved: Path, entangled: Path) -> Models:
    return Models([entangled, improved], "cpu")


def job() -> Job:
    """A job that nobody waits for."""
    return Job(lambda job: None, 0, limit=60.0)
