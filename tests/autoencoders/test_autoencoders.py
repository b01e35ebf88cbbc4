from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from open_ldm.autoencoders import IdentityConfig, KLConfig, build_autoencoder, latent_shape
from open_ldm.core.errors import ConfigError
from tests.helpers import randn

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=5,
        sample_size=16,
    ).eval()


@pytest.fixture(scope="module")
def folder(tiny: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kl")
    tiny.save_pretrained(path)
    return path


def test_identity_is_exact() -> None:
    images = randn(2, 3, 4, 6)
    autoencoder = build_autoencoder(IdentityConfig(), CPU)
    posterior = autoencoder.encode(images)
    assert torch.equal(posterior.mean, images)
    assert posterior.std is None
    assert torch.equal(autoencoder.decode(images), images)
    assert autoencoder.raw_range == (-1, 1)


def test_kl_equals_diffusers(tiny: AutoencoderKL, folder: Path) -> None:
    autoencoder = build_autoencoder(KLConfig(path=str(folder), channels=5, factor=2), CPU)
    images = randn(2, 3, 16, 8)
    with torch.no_grad():
        wanted = tiny.encode(images).latent_dist
        decoded = tiny.decode(wanted.mean).sample
    found = autoencoder.encode(images)
    assert found.mean.shape == (2, 5, 8, 4)
    assert found.std is not None
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.std, wanted.std)
    torch.testing.assert_close(autoencoder.decode(found.mean), decoded)
    assert (autoencoder.channels, autoencoder.factor, autoencoder.raw_range) == (5, 2, None)


def test_kl_is_frozen(folder: Path) -> None:
    autoencoder = build_autoencoder(KLConfig(path=str(folder), channels=5, factor=2), CPU)
    assert not autoencoder.decode(autoencoder.encode(randn(1, 3, 8, 8)).mean.requires_grad_()).requires_grad


@pytest.mark.parametrize(("channels", "factor"), [(4, 2), (5, 8)])
def test_kl_with_other_numbers_than_the_recipe(folder: Path, channels: int, factor: int) -> None:
    with pytest.raises(ConfigError, match=r"fix: autoencoder.channels=5 autoencoder.factor=2") as caught:
        build_autoencoder(KLConfig(path=str(folder), channels=channels, factor=factor), CPU)
    assert "\n" not in str(caught.value)


def fails(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded") as caught:
        build_autoencoder(KLConfig(path=str(path), channels=5, factor=2), CPU)
    assert "\n" not in str(caught.value)


def test_kl_from_a_missing_folder(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere")


def test_kl_from_an_empty_folder(tmp_path: Path) -> None:
    fails(tmp_path)


def test_kl_takes_safetensors_only(tiny: AutoencoderKL, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path, safe_serialization=False)
    assert list(tmp_path.glob("*.bin"))
    fails(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_kl_with_a_damaged_file(tiny: AutoencoderKL, tmp_path: Path, name: str) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"\x10garbage")
    fails(tmp_path)


def test_kl_that_lacks_weights_is_not_filled_with_random_ones(tiny: AutoencoderKL, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["decoder.conv_in.weight"]
    save_file(tensors, file)
    with pytest.raises(ConfigError, match=r"lacks 1 weights, decoder\.conv_in\.weight first; needed: ") as caught:
        build_autoencoder(KLConfig(path=str(tmp_path), channels=5, factor=2), CPU)
    assert "\n" not in str(caught.value)
    save_file({**tensors, "decoder.conv_in.weight": torch.zeros(3)}, file)
    fails(tmp_path)


def test_latent_shape_without_loading() -> None:
    assert latent_shape(IdentityConfig(), 32, 48) == (3, 32, 48)
    assert latent_shape(KLConfig(path="nowhere", channels=16, factor=8), 64, 128) == (16, 8, 16)


@pytest.mark.parametrize("wrong", ["channels", "factor"])
def test_kl_channels_and_factor_are_at_least_one(wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        KLConfig(path="x", **{wrong: 0})
