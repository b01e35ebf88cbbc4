"""The fingerprint of an autoencoder changes exactly when its raw latents can."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from open_ldm.autoencoders import AutoencoderConfig, IdentityConfig, KLConfig, TinyConfig, build_autoencoder

CPU = torch.device("cpu")


def saved(kind: str, folder: Path) -> tuple[torch.nn.Module, AutoencoderConfig]:
    torch.manual_seed(0)
    if kind == "kl":
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
        )
    else:
        network = AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
    network.save_pretrained(folder)
    config = KLConfig(path=str(folder), factor=2) if kind == "kl" else TinyConfig(path=str(folder), factor=2)
    return network, config


@pytest.mark.parametrize("kind", ["kl", "tiny"])
@pytest.mark.parametrize(("part", "counts"), [("encoder", True), ("decoder", False)])
def test_another_encoder_counts_and_another_decoder_does_not(kind: str, part: str, counts: bool, tmp_path: Path) -> None:
    network, config = saved(kind, tmp_path / "one")
    before = build_autoencoder(config, CPU).fingerprint
    with torch.no_grad():
        next(network.get_submodule(part).parameters()).add_(1e-3)
    network.save_pretrained(tmp_path / "other")
    other = config.model_copy(update={"path": str(tmp_path / "other")})
    assert (build_autoencoder(other, CPU).fingerprint != before) is counts


def test_kinds_differ(tmp_path: Path) -> None:
    configs = [IdentityConfig(), *(saved(kind, tmp_path / kind)[1] for kind in ("kl", "tiny"))]
    assert len({build_autoencoder(config, CPU).fingerprint for config in configs}) == 3
