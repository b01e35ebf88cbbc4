"""The network to be trained here, and its loss."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from open_ldm.autoencoders.network import NetworkConfig, Reconstruction, build_network
from open_ldm.autoencoders.reconstruction import ReconstructionConfig, reconstruction_losses
from tests.helpers import randn, randomise, relative

SMALL = NetworkConfig(in_channels=5, latent_channels=3, widths=(8, 12, 16), groups=4)


def test_it_is_diffusers_autoencoder() -> None:
    network = randomise(build_network(SMALL, seed=1))
    images, noise = randn(2, 5, 16, 8), randn(2, 3, 4, 2, seed=1)
    assert network.latent_shape(images) == (3, 4, 2)
    with torch.no_grad():
        posterior = network.kl.encode(images).latent_dist
        decoded = network.kl.decode(posterior.mean + posterior.std * noise).sample
        found = network(images, noise)
    torch.testing.assert_close(found.images, decoded)
    torch.testing.assert_close(found.kl, posterior.kl())
    assert (found.kl > 0).all()


@pytest.mark.parametrize("widths", [(8,), (8, 8), (8, 16, 24, 24)])
def test_factor_follows_from_the_widths(widths: tuple[int, ...]) -> None:
    config = NetworkConfig(widths=widths)
    assert config.factor == 2 ** (len(widths) - 1)
    images = randn(1, 3, 16, 16)
    assert build_network(config, 0).encode(images).mean.shape[2] == 16 // config.factor


def test_blocks_and_attention_do_something() -> None:
    def parameters(**changes: object) -> int:
        return sum(p.numel() for p in build_network(NetworkConfig(widths=(8, 8), **changes), 0).parameters())  # type: ignore[arg-type]

    assert parameters() < parameters(attention=True) and parameters() < parameters(blocks=2)


def test_initial_weights_follow_from_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_network(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["kl.encoder.conv_in.weight"], other["kl.encoder.conv_in.weight"])


def test_it_starts_with_a_narrow_posterior_that_knows_the_picture() -> None:
    network = build_network(NetworkConfig(widths=(16, 32), latent_channels=8), seed=0)
    with torch.no_grad():
        posterior = network.encode(randn(8, 3, 16, 16))
        assert (posterior.std < 0.2).all()
        assert float(posterior.mean.std()) > 5 * float(posterior.std.mean())
        for name, parameter in network.named_parameters():
            assert bool(parameter.any()) == (not name.endswith(("conv2.weight", "bias")) or name == "kl.quant_conv.bias"), name


def test_bf16_is_close_and_comes_out_in_float32() -> None:
    network = randomise(build_network(SMALL, seed=1))
    images, noise = randn(1, 5, 8, 8), randn(1, 3, 2, 2, seed=1)
    with torch.no_grad():
        exact = network(images, noise)
        network.compute_dtype = torch.bfloat16
        rounded = network(images, noise)
    assert rounded.images.dtype == rounded.kl.dtype == torch.float32
    assert 0 < relative(rounded.images, exact.images) < 0.05


@pytest.mark.parametrize("wrong", [{"widths": (8, 10)}, {"widths": ()}, {"in_channels": 0}, {"latent_channels": 0}])
def test_networks_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NetworkConfig(**wrong)  # type: ignore[arg-type]


def by_hand(config: ReconstructionConfig, found: Reconstruction, images: Tensor) -> list[float]:
    """The loss in numpy, with loops."""
    losses = []
    for picture in range(len(images)):
        error = (found.images - images)[picture].double().numpy()
        values = error.size
        loss = np.abs(error).mean() if config.pixels == "l1" else (error**2).mean()
        for _ in range(config.scales):
            across, down = np.abs(error[:, :, 1:] - error[:, :, :-1]), np.abs(error[:, 1:] - error[:, :-1])
            loss += config.edges * (across.mean() + down.mean()) / config.scales
            quarters = [error[:, i::2, j::2] for i, j in product((0, 1), (0, 1))]
            error = sum(quarters) / 4
        losses.append(float(loss + config.kl * float(found.kl[picture]) / values))
    return losses


@pytest.mark.parametrize("pixels", ["l1", "l2"])
def test_the_loss_is_what_its_docstring_says(pixels: str) -> None:
    config = ReconstructionConfig(pixels=pixels, edges=0.7, scales=3, kl=0.3)  # type: ignore[arg-type]
    images = randn(2, 4, 16, 8)
    found = Reconstruction(randn(2, 4, 16, 8, seed=1), torch.tensor([5.0, 700.0]))
    losses = reconstruction_losses(config, found, images)
    np.testing.assert_allclose(losses, by_hand(config, found, images), rtol=1e-5)


def test_a_flat_error_has_no_edges_and_a_moved_edge_has() -> None:
    pixels_only, edges_too = (ReconstructionConfig(edges=weight, kl=0) for weight in (0.0, 1.0))
    images = torch.zeros(1, 1, 16, 16)
    flat = Reconstruction(images + 0.25, torch.zeros(1))
    stripes = Reconstruction(images + 0.25 * (-1.0) ** torch.arange(16), torch.zeros(1))
    for found, more in ((flat, False), (stripes, True)):
        without, with_edges = (float(reconstruction_losses(c, found, images)) for c in (pixels_only, edges_too))
        assert without == 0.25
        assert with_edges > without if more else with_edges == without
