"""A packed run is half as large, is sampled from as the run is, and looks the same."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import pack_demo
from benchmarks import pack_model as pack_model_script
from diffusers import AutoencoderKL

from open_ldm.commands.pack import pack_model, pack_models, size_of
from open_ldm.core.errors import ConfigError
from open_ldm.runs.load import load_model, load_run
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


def test_a_packed_run_brings_its_autoencoder_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    network = AutoencoderKL(**blocks, block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4)
    network.save_pretrained(kl := tmp_path / "kl")
    behind = [f"autoencoder={{kind: kl, path: {kl}, channels: 4, factor: 2}}", "data.transform.size_px=16"]
    recipe = load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=4", "preview.count=1", *behind])
    assert train(recipe, tmp_path / "run", silent=True, command=["ldm", "train", "tiny"]).code == 0
    own = load_run(tmp_path / "run", "cpu").generator.autoencoder
    monkeypatch.setattr(sys, "argv", ["pack_model", str(tmp_path / "run"), str(tmp_path / "packed")])
    assert pack_model_script.main() == 0
    assert "vae/diffusion_pytorch_model.safetensors" in (tmp_path / "packed" / "SHA256SUMS").read_text()
    shutil.rmtree(kl)
    (tmp_path / "packed").rename(tmp_path / "elsewhere")
    packed = load_run(tmp_path / "elsewhere", "cpu")
    latents = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(packed.generator.autoencoder.decode(latents), own.decode(latents), rtol=0, atol=0)


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
