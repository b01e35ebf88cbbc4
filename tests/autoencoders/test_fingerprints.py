"""The fingerprint of an autoencoder changes exactly when its raw latents can."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from open_ldm.autoencoders import AutoencoderConfig, IdentityConfig, KLConfig, TinyConfig, build_autoencoder
from open_ldm.autoencoders.pretrained import _OF_THE_ENCODER, pixels_at_once
from open_ldm.core.hashes import hash_content, hash_tensors

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


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_another_dtype_counts_and_float32_is_what_it_always_was(kind: str, tmp_path: Path) -> None:
    network, config = saved(kind, tmp_path)
    plain = build_autoencoder(config, CPU)
    assert "dtype" not in config.model_dump()
    state = network.state_dict()
    encoder = {name: state[name] for name in state if name.startswith(("encoder.", "quant_conv."))}
    settings = {name: value for name, value in dict(network.config).items() if name in _OF_THE_ENCODER}
    assert plain.fingerprint == hash_content([type(network).__name__, hash_tensors(encoder), settings])
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    exact, seen = plain.encode(images).mean, {plain.fingerprint}
    for dtype, most in (("bf16", 0.05), ("fp16", 0.01)):
        rounded = build_autoencoder(config.model_copy(update={"dtype": dtype}), CPU)
        found = rounded.encode(images).mean
        assert found.dtype == rounded.decode(found).dtype == torch.float32
        assert 0 < float((found - exact).norm() / exact.norm()) < most
        seen.add(rounded.fingerprint)
    assert len(seen) == 3


def test_a_card_with_room_takes_more_pictures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for gib in (8, 40, 80, 141):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, gib=gib: SimpleNamespace(total_memory=gib << 30)
        )
        sizes.append(pixels_at_once(torch.device("cuda")) // 256**2)
    assert sizes == [16, 32, 80, 128] and pixels_at_once(CPU) == 16 * 256**2
