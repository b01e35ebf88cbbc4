from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from open_ldm.autoencoders import IdentityConfig, KLConfig, TinyConfig, build_autoencoder, latent_shape
from open_ldm.autoencoders.channels import with_channels
from open_ldm.core.errors import CheckpointError, ConfigError
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


def test_kl_in_a_subfolder_of_a_repository(tiny: AutoencoderKL, tmp_path: Path) -> None:
    """As pipelines lie on disk: beside other parts, one of which is an autoencoder too."""
    tiny.save_pretrained(tmp_path / "vae")
    kl_of(tmp_path / "other", 3)
    (tmp_path / "model_index.json").write_text("{}")
    autoencoder = build_autoencoder(KLConfig(path=str(tmp_path), subfolder="vae", channels=5, factor=2), CPU)
    images = randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.encode(images).mean, tiny.encode(images).latent_dist.mean)
    fails(tmp_path)
    with pytest.raises(ConfigError) as caught:
        build_autoencoder(KLConfig(path=str(tmp_path), subfolder="vea", channels=5, factor=2), CPU)
    assert f"{tmp_path}/vea' cannot be loaded" in caught.value.problem


def test_kl_is_frozen(folder: Path) -> None:
    autoencoder = build_autoencoder(KLConfig(path=str(folder), channels=5, factor=2), CPU)
    assert not autoencoder.decode(autoencoder.encode(randn(1, 3, 8, 8)).mean.requires_grad_()).requires_grad


@pytest.mark.parametrize(("channels", "factor"), [(4, 2), (5, 8)])
def test_kl_with_other_numbers_than_the_recipe(folder: Path, channels: int, factor: int) -> None:
    with pytest.raises(ConfigError, match=r"fix: autoencoder.channels=5 autoencoder.factor=2") as caught:
        build_autoencoder(KLConfig(path=str(folder), channels=channels, factor=factor), CPU)
    assert "\n" not in str(caught.value)


def fails(path: Path) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=r"cannot be (loaded|read)") as caught:
        build_autoencoder(KLConfig(path=str(path), channels=5, factor=2), CPU)
    assert "\n" not in str(caught.value)


def test_kl_from_a_missing_folder(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"there is no such folder\); needed: .*; fix: train one with ldm autoencoder train"):
        build_autoencoder(KLConfig(path="runs/photos-autoencoder/nowhere", channels=5, factor=2), CPU)


def test_kl_from_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError, match="there is no such folder"):
        build_autoencoder(KLConfig(path="runs/mine", channels=5, factor=2), CPU)


def test_kl_from_the_folder_of_its_training(tiny: AutoencoderKL, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "run" / "autoencoder")
    with pytest.raises(ConfigError, match=rf"fix: autoencoder.path={tmp_path}/run/autoencoder"):
        build_autoencoder(KLConfig(path=str(tmp_path / "run"), channels=5, factor=2), CPU)


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


def kl_of(path: Path, channels: int) -> AutoencoderKL:
    """A KL autoencoder of pictures of `channels` channels, saved in `path`."""
    torch.manual_seed(1)
    network = AutoencoderKL(
        in_channels=channels, out_channels=channels, block_out_channels=(8,), norm_num_groups=4, latent_channels=2
    ).eval()
    network.save_pretrained(path)
    return network


def test_a_grey_autoencoder_takes_luma_and_gives_rgb(tmp_path: Path) -> None:
    network = kl_of(tmp_path, 1)
    autoencoder = build_autoencoder(KLConfig(path=str(tmp_path), channels=2, factor=1), CPU)
    images = randn(2, 3, 8, 8)
    grey = (0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]).unsqueeze(1)
    with torch.no_grad():
        wanted = network.encode(grey).latent_dist.mean
        decoded = network.decode(wanted).sample
    torch.testing.assert_close(autoencoder.encode(images).mean, wanted)
    torch.testing.assert_close(autoencoder.encode(grey).mean, wanted)
    found = autoencoder.decode(wanted)
    assert found.shape == (2, 3, 8, 8)
    torch.testing.assert_close(found, decoded.expand(-1, 3, -1, -1))


def test_another_number_of_channels_passes_through_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    kl_of(tmp_path, 5)
    autoencoder = build_autoencoder(KLConfig(path=str(tmp_path), channels=2, factor=1), CPU)
    images = randn(2, 5, 8, 8)
    assert autoencoder.decode(autoencoder.encode(images).mean).shape == images.shape
    with pytest.raises(ConfigError, match=r"3 channels do not fit an autoencoder of 5; needed: .*; fix: ") as caught:
        autoencoder.encode(randn(2, 3, 8, 8))
    assert "\n" not in str(caught.value)


def test_grey_stays_grey_whatever_the_way_round() -> None:
    grey = randn(2, 1, 4, 4)
    torch.testing.assert_close(with_channels(with_channels(grey, 3), 1), grey)


def test_a_large_batch_is_done_in_portions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = build_autoencoder(KLConfig(path=str(folder), channels=5, factor=2), CPU)
    images = randn(5, 3, 8, 8)
    whole = autoencoder.encode(images)
    decoded = autoencoder.decode(whole.mean)
    monkeypatch.setattr(autoencoder, "_pixels_at_once", 2 * 8 * 8)
    sizes: list[int] = []
    decode = autoencoder.network.decode
    monkeypatch.setattr(autoencoder.network, "decode", lambda portion: sizes.append(len(portion)) or decode(portion))
    found = autoencoder.encode(images)
    torch.testing.assert_close(found.mean, whole.mean)
    torch.testing.assert_close(found.std, whole.std)
    torch.testing.assert_close(autoencoder.decode(whole.mean), decoded)
    assert sizes == [2, 2, 1]


@pytest.fixture(scope="module")
def taesd(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderTiny, Path]:
    """Random weights in TAESD's format, of factor 4."""
    torch.manual_seed(2)
    network = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    ).eval()
    path = tmp_path_factory.mktemp("tiny")
    network.save_pretrained(path)
    return network, path


def test_tiny_is_exact_and_keeps_to_its_conventions(taesd: tuple[AutoencoderTiny, Path]) -> None:
    network, path = taesd
    autoencoder = build_autoencoder(TinyConfig(path=str(path), channels=4, factor=4), CPU)
    images = randn(2, 3, 16, 8).clamp(-1, 1)
    posterior = autoencoder.encode(images)
    assert posterior.std is None and posterior.mean.shape == (2, 4, 4, 2)
    with torch.no_grad():
        # Pictures in [0, 1] inside, latents bent by 3 tanh(x / 3), no scaling factor and no bytes in between.
        torch.testing.assert_close(posterior.mean, network.encoder.layers((images + 1) / 2))
        wanted = network.decoder.layers(3 * torch.tanh(posterior.mean / 3)) * 2 - 1
    torch.testing.assert_close(autoencoder.decode(posterior.mean), wanted)
    assert (autoencoder.channels, autoencoder.factor, autoencoder.raw_range) == (4, 4, None)
    assert not autoencoder.decode(posterior.mean.requires_grad_()).requires_grad


def test_tiny_is_checked_like_kl(taesd: tuple[AutoencoderTiny, Path], folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"fix: autoencoder.channels=4 autoencoder.factor=4"):
        build_autoencoder(TinyConfig(path=str(taesd[1])), CPU)
    for config in (TinyConfig(path=str(folder)), KLConfig(path=str(taesd[1]))):
        with pytest.raises(ConfigError, match="needed: ") as caught:
            build_autoencoder(config, CPU)
        assert "\n" not in str(caught.value)


def test_every_config_tells_channels_and_factor() -> None:
    assert (IdentityConfig().channels, IdentityConfig().factor) == (3, 1)
    assert latent_shape(IdentityConfig(channels=5), 8, 6) == (5, 8, 6)
    assert build_autoencoder(IdentityConfig(channels=5), CPU).channels == 5
    assert latent_shape(TinyConfig(path="nowhere", channels=16), 64, 128) == (16, 8, 16)
