from __future__ import annotations

import numpy as np
import pytest
import torch

from open_ldm.autoencoders import GivenStats, LatentStats, Posterior
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.core.errors import ConfigError, DataError
from tests.helpers import randn

SHIFT = torch.tensor([3.0, -200.0, 0.0, 0.01]).view(1, 4, 1, 1)
SCALE = torch.tensor([1.0, 0.5, 100.0, 1e-3]).view(1, 4, 1, 1)
RAW = randn(12, 4, 5, 7) * SCALE + SHIFT


def test_measured_equals_numpy_whatever_the_batches() -> None:
    wanted = RAW.double().numpy()
    for sizes in ([12], [5, 7], [1] * 12):
        stats = measure(RAW.split(sizes))
        np.testing.assert_allclose(stats.mean, wanted.mean(axis=(0, 2, 3)), rtol=1e-9)
        np.testing.assert_allclose(stats.std, wanted.std(axis=(0, 2, 3)), rtol=1e-6)


def test_normalised_latents_have_mean_0_and_deviation_1() -> None:
    latents = measure([RAW]).normalise(RAW)
    np.testing.assert_allclose(latents.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(latents.std(dim=(0, 2, 3), unbiased=False), 1, rtol=1e-4)


def test_normalise_and_denormalise_are_inverse() -> None:
    stats = LatentStats(mean=(3.0, -2.0, 0.0, 0.01), std=(1.0, 0.5, 100.0, 1e-3))
    raw = RAW.double()
    torch.testing.assert_close(stats.denormalise(stats.normalise(raw)), raw, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.normalise(stats.denormalise(raw)), raw, rtol=1e-12, atol=1e-12)
    assert stats.normalise(RAW).dtype == torch.float32


def test_a_constant_channel_keeps_deviation_1() -> None:
    raw = torch.cat([torch.full((3, 1, 2, 2), 0.25), randn(3, 1, 2, 2)], dim=1)
    stats = measure([raw])
    assert stats.std[0] == 1
    assert not stats.normalise(raw)[:, 0].any()


def test_given_is_shift_then_scale() -> None:
    stats = given(GivenStats(scale=1.5305, shift=0.0609), channels=4)
    torch.testing.assert_close(stats.normalise(RAW), (RAW - 0.0609) * 1.5305)
    with pytest.raises(ValueError, match="greater than 0"):
        GivenStats(scale=0)


def test_given_for_each_channel() -> None:
    stats = given(GivenStats(scale=(1.0, 2.0, 4.0, 8.0), shift=(0.0, 1.0, -1.0, 3.0)), channels=4)
    scale, shift = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1), torch.tensor([0.0, 1.0, -1.0, 3.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(stats.normalise(RAW), (RAW - shift) * scale)
    one_of_each = given(GivenStats(scale=(1.0, 2.0), shift=0.5), channels=2)
    assert one_of_each == LatentStats(mean=(0.5, 0.5), std=(1.0, 0.5))


@pytest.mark.parametrize("wrong", [{"scale": (1.0, 2.0)}, {"scale": 1.0, "shift": (0.0,) * 5}])
def test_given_for_another_number_of_channels(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"given for [25] channels; needed: one number, or 4.*; fix: .* ldm data stats"):
        given(GivenStats(**wrong), channels=4)


@pytest.mark.parametrize("wrong", [{"scale": (1.0, 2.0), "shift": (0.0,)}, {"scale": ()}, {"scale": (1.0, 0.0)}])
def test_given_lists_that_make_no_sense(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="scale"):
        GivenStats(**wrong)


def test_measured_can_be_written_down_and_given() -> None:
    stats = measure([RAW])
    again = given(stats.as_given(), channels=4)
    np.testing.assert_allclose(again.mean, stats.mean, rtol=1e-5)
    np.testing.assert_allclose(again.std, stats.std, rtol=1e-5)


def test_a_posterior_counts_as_its_draws() -> None:
    std = randn(12, 4, 5, 7, seed=1).abs() * SCALE
    stats = measure([Posterior(RAW[:5], std[:5]), Posterior(RAW[5:], std[5:])])
    draws = RAW.double() + std.double() * torch.randn(4000, *std.shape, generator=torch.Generator().manual_seed(2)).double()
    np.testing.assert_allclose(stats.mean, measure([RAW]).mean)
    np.testing.assert_allclose(stats.std, draws.std(dim=(0, 1, 3, 4)), rtol=2e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_statistics_that_are_no_finite_numbers_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="latents of the pictures hold NaN or infinity"):
        measure([torch.full((1, 2, 2, 2), bad)])
    for mean, std in (((0.0,), (0.0,)), ((0.0,), (bad,)), ((bad,), (1.0,)), ((0.0, 1.0), (1.0,)), ((), ()), (("1",), (1.0,))):
        with pytest.raises(ValueError, match="needed: finite, std above 0"):
            LatentStats(mean, std)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beyond which float32 holds no latents"):
        GivenStats(scale=1e-320)
