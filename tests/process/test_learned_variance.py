from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.special import ndtr

from open_ldm.process.learned_variance import (
    interpolated_log_variance,
    posterior_mean,
    variance_bounds,
    variational_bound_bits,
)
from open_ldm.process.posterior import posterior
from open_ldm.process.prediction import Denoised
from open_ldm.process.schedules import NoiseLevel
from tests.process.cases import SCHEDULES

BETA = np.linspace(1e-4, 0.02, 1000)
ALPHA_BAR = np.cumprod(1 - BETA)
ALPHA_BAR_BEFORE = np.append(1.0, ALPHA_BAR[:-1])
POSTERIOR_VARIANCE = BETA * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR)


def draws(count: int, rows: int) -> Tensor:
    return torch.randn(count, rows, 2, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_are_those_of_ddpm(dtype: torch.dtype) -> None:
    bounds = variance_bounds(SCHEDULES["linear"], (torch.arange(1000, dtype=dtype) + 1) / 1000)
    clipped = np.append(POSTERIOR_VARIANCE[1], POSTERIOR_VARIANCE[1:])
    np.testing.assert_allclose(bounds.log_beta.numpy(), np.log(BETA), rtol=1e-10)
    np.testing.assert_allclose(bounds.log_posterior.numpy(), np.log(clipped), rtol=1e-10)


def test_posterior_mean_is_that_of_ddpm() -> None:
    schedule, index = SCHEDULES["linear"], np.array([0, 1, 500, 999])
    t = torch.tensor((index + 1) / 1000)
    step = posterior(schedule.level(t), schedule.level(t - 1 / 1000))
    x_0, x_t = draws(2, 4)
    a = np.sqrt(ALPHA_BAR_BEFORE[index]) * BETA[index] / (1 - ALPHA_BAR[index])
    b = np.sqrt(1 - BETA[index]) * (1 - ALPHA_BAR_BEFORE[index]) / (1 - ALPHA_BAR[index])
    expected = torch.tensor(a).view(4, 1, 1, 1) * x_0 + torch.tensor(b).view(4, 1, 1, 1) * x_t
    torch.testing.assert_close(posterior_mean(step, x_0, x_t), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_is_bayes_rule(name: str) -> None:
    """Precision and mean of q(x_t | x_s) q(x_s | x_0), without the simplification the code uses."""
    schedule = SCHEDULES[name]
    t, s = torch.tensor([0.1, 0.4, 0.95]).double(), torch.tensor([0.05, 0.375, 0.9]).double()
    later, earlier = schedule.level(t), schedule.level(s)
    ratio = later.alpha / earlier.alpha
    beta = later.sigma**2 - ratio**2 * earlier.sigma**2
    precision = ratio**2 / beta + 1 / earlier.sigma**2
    step = posterior(later, earlier)
    torch.testing.assert_close(step.beta, beta, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.variance, 1 / precision, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.x_t_weight, ratio / beta / precision, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.x_0_weight, earlier.alpha / earlier.sigma**2 / precision, rtol=1e-9, atol=0)


def test_posterior_from_pure_noise_to_pure_data() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    step = posterior(NoiseLevel(zero, one), NoiseLevel(one, zero))
    assert [step.x_t_weight.item(), step.x_0_weight.item(), step.variance.item(), step.beta.item()] == [0, 1, 0, 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_fraction_runs_between_the_bounds(name: str) -> None:
    t = torch.tensor([0.025, 0.5, 1.0])
    bounds = variance_bounds(SCHEDULES[name], t)
    shape = (3, 2, 1, 1)
    low, high = bounds.log_posterior.view(3, 1, 1, 1), bounds.log_beta.view(3, 1, 1, 1)
    assert bool((low < high).all()) and bool(torch.isfinite(low).all())
    for fraction, expected in ((-1.0, low), (1.0, high), (0.0, (low + high) / 2)):
        log_variance = interpolated_log_variance(torch.full(shape, fraction, dtype=torch.float64), bounds)
        torch.testing.assert_close(log_variance, expected.expand(shape))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_bound_is_zero_when_the_prediction_is_exact(name: str) -> None:
    schedule, t = SCHEDULES[name], torch.tensor([0.075, 0.5, 0.9])
    x_0, eps = draws(2, 3)
    exact = Denoised(x_0, torch.full_like(x_0, -1))
    bits = variational_bound_bits(schedule, x_0, schedule.noised(x_0, eps, t), t, exact)
    torch.testing.assert_close(bits, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_bound_equals_torch_distributions() -> None:
    schedule, index = SCHEDULES["linear"], np.array([0, 0, 1, 300, 999])
    t = torch.tensor((index + 1) / 1000)
    x_0, eps, error, fraction = draws(4, 5)
    # the open end bins and, at the first step, errors of the order of its standard deviation
    x_0 = torch.round((x_0.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1
    x_t, guess = schedule.noised(x_0, eps, t), x_0 + 0.01 * error
    bits = variational_bound_bits(schedule, x_0, x_t, t, Denoised(guess, fraction))

    def column(values: np.ndarray) -> Tensor:
        return torch.tensor(values[index]).view(5, 1, 1, 1)

    a = column(np.sqrt(ALPHA_BAR_BEFORE) * BETA / (1 - ALPHA_BAR))
    b = column(np.sqrt(1 - BETA) * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR))
    low, high = column(np.log(np.append(POSTERIOR_VARIANCE[1], POSTERIOR_VARIANCE[1:]))), column(np.log(BETA))
    std = torch.exp((low + (fraction + 1) / 2 * (high - low)) / 2)
    model = Normal(a * guess + b * x_t, std)
    kl = kl_divergence(Normal(a * x_0 + b * x_t, torch.exp(low / 2)), model)
    upper = torch.where(x_0 > 0.999, torch.tensor(1.0).double(), ndtr((x_0 + 1 / 255 - model.loc) / std))
    lower = torch.where(x_0 < -0.999, torch.tensor(0.0).double(), ndtr((x_0 - 1 / 255 - model.loc) / std))
    nll = -torch.log(upper - lower)
    expected = torch.cat([nll[:2], kl[2:]]).flatten(1).mean(1) / math.log(2)
    assert bool((x_0[:2].abs() > 0.999).any()) and bool((x_0[:2].abs() < 0.999).any())
    torch.testing.assert_close(bits, expected, rtol=1e-8, atol=1e-8)


def test_only_the_variance_learns_from_the_bound() -> None:
    schedule, t = SCHEDULES["rectified_flow"], torch.tensor([2.0**-24, 0.0004, 0.001, 0.5, 1.0])
    x_0, eps = draws(2, 5).float()
    guess = torch.zeros_like(x_0, requires_grad=True)
    fraction = torch.zeros_like(x_0, requires_grad=True)
    bits = variational_bound_bits(schedule, x_0, schedule.noised(x_0, eps, t), t, Denoised(guess, fraction))
    assert bits.shape == (5,) and bits.dtype == torch.float32 and bool(bits.isfinite().all())
    of_guess = torch.autograd.grad(bits.sum(), guess, allow_unused=True, retain_graph=True)
    assert [part is None for part in of_guess] == [True]
    (gradient,) = torch.autograd.grad(bits.sum(), fraction)
    assert bool(gradient.isfinite().all()) and bool(gradient[3].abs().sum() > 0)


def test_a_denoiser_without_variance_is_refused() -> None:
    x = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="variance fraction"):
        variational_bound_bits(SCHEDULES["linear"], x, x, torch.tensor([0.5]), Denoised(x))
