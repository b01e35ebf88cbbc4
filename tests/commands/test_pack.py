"""A packed run is half as large, is sampled from as the run is, and looks the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from benchmarks import pack_demo

from open_ldm.commands.pack import pack_model, pack_models, size_of
from open_ldm.core.errors import ConfigError
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.studio.models import DEMO_BYTES, DEMO_MODELS, Models, demo_models
from tests.runs.tiny import tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    recipe = load_recipe(str(tiny_recipe(folder)), ["training.samples=4", "preview.count=1"])
    assert train(recipe, folder / "run", silent=True, command=["ldm", "train", "tiny"]).code == 0
    return folder / "run"


def test_a_packed_run_is_the_run_in_bf16(run: Path, tmp_path: Path) -> None:
    size = pack_model(run, tmp_path / "packed")
    assert size == size_of(tmp_path / "packed") < size_of(run / "checkpoints")
    packed, own = load_model(tmp_path / "packed", "cpu"), load_model(run, "cpu")
    assert packed.recipe == own.recipe and packed.known == own.known and packed.samples_seen == own.samples_seen
    for name, tensor in own.model.state_dict().items():
        torch.testing.assert_close(packed.model.state_dict()[name], tensor, rtol=2**-8, atol=0)
    with pytest.raises(ConfigError, match="exists"):
        pack_model(run, tmp_path / "packed")


def test_the_script_packs_a_demo_and_the_studio_plays_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEMO_MODELS:
        (tmp_path / "demo").mkdir(exist_ok=True)
        (tmp_path / "demo" / name).symlink_to(run)
    monkeypatch.setattr(sys, "argv", ["pack_demo", str(tmp_path / "demo"), str(tmp_path / "out")])
    assert pack_demo.main() == 0
    models = Models([tmp_path / "out" / name for name in DEMO_MODELS], "cpu")
    assert [facts.name for facts in models.playable()] == list(DEMO_MODELS)


def test_too_large_ones_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 10"):
        pack_models({"a": run}, tmp_path / "out", 10)


def test_what_comes_with_the_package_is_small_and_whole() -> None:
    folders = demo_models()
    assert sum(map(size_of, folders)) <= DEMO_BYTES
    for folder in folders:
        assert load_model(folder, "cpu").samples_seen > 0
