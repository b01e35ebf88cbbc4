"""An exported autoencoder states its own hash: damage is found, also in settings and in the decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from open_ldm.autoencoders import KLConfig, build_autoencoder
from open_ldm.autoencoders.export import export
from open_ldm.autoencoders.latent_stats import LatentStats
from open_ldm.autoencoders.network import NetworkConfig, build_network
from open_ldm.core.errors import CheckpointError

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = KLConfig(path="autoencoder", channels=3, factor=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = build_network(NetworkConfig(latent_channels=3, widths=(8, 8), groups=4), seed=0)
    export(network, LatentStats((0.0,) * 3, (1.0,) * 3), tmp_path / "autoencoder")
    return tmp_path / "autoencoder"


def test_a_whole_one_is_read_and_one_of_another_program_too(folder: Path) -> None:
    before = build_autoencoder(CONFIG, CPU).fingerprint
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"format": "pt"})  # without our hash
    assert build_autoencoder(CONFIG, CPU).fingerprint == before


@pytest.mark.parametrize("where", [-3, 200_000])
def test_a_flipped_bit_of_its_weights_is_found(where: int, folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[where if where < 0 else len(content) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="autoencoder autoencoder is damaged: its SHA-256 is not the one it states"):
        build_autoencoder(CONFIG, CPU)


def test_another_setting_is_found_and_the_scale_for_other_programs_is_free(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "scaling_factor": 3.0}))
    build_autoencoder(CONFIG, CPU)
    (folder / "config.json").write_text(json.dumps({**settings, "norm_num_groups": 2}))
    with pytest.raises(CheckpointError, match="is damaged"):
        build_autoencoder(CONFIG, CPU)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="cannot be read"):
        build_autoencoder(CONFIG, CPU)
