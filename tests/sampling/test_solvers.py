from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.process.posterior import posterior
from open_ldm.process.prediction import Denoised, to_x_0
from open_ldm.process.schedules import NoiseLevel, Schedule
from open_ldm.sampling.solvers import SOLVERS, Denoise, ddim, ddpm, euler
from open_ldm.sampling.time_grid import time_grid
from tests.process.cases import SCHEDULES
from tests.sampling.gaussian import MEAN, STD, exact_denoiser, on_path, spread

DETERMINISTIC = ["ddim", "euler", "heun", "dpmpp_2m"]
W = torch.tensor([-1.5, 0.0, 0.3, 2.0], dtype=torch.float64).view(4, 1, 1, 1)


def no_noise(step: int) -> Tensor:
    raise AssertionError("a deterministic solver asked for noise")


def nonlinear(schedule: Schedule) -> Denoise:
    """Some smooth denoiser that is exact for nothing."""

    def denoise(x_t: Tensor, t: float) -> Denoised:
        return Denoised(torch.tanh(x_t + 0.3 * math.sin(5 * t)))

    return denoise


def ode_error(name: str, solver: str, times: Tensor) -> float:
    """Largest distance from the exact path at the end of the grid."""
    schedule = SCHEDULES[name]
    start, end = on_path(schedule, float(times[0]), W), on_path(schedule, float(times[-1]), W)
    return float((SOLVERS[solver](exact_denoiser(schedule), schedule, start, times, no_noise) - end).abs().max())


@pytest.mark.parametrize("name", ["rectified_flow", "cosine", "linear", "linear_zero_terminal"])
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(name: str, solver: str, order: int) -> None:
    # between the ends, where every schedule is smooth; at all these numbers of steps the times are table points
    errors = [ode_error(name, solver, torch.linspace(0.92, 0.12, n + 1).double()) for n in (40, 80, 160)]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[0] == pytest.approx(order, abs=0.25) and orders[1] == pytest.approx(order, abs=0.12), (errors, orders)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_from_pure_noise_to_data(solver: str, order: int) -> None:
    times = [time_grid(SCHEDULES["rectified_flow"], steps) for steps in (50, 100, 200)]
    errors = [ode_error("rectified_flow", solver, grid) for grid in times]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([order, order], abs=0.05), (errors, orders)


@pytest.mark.parametrize("name", SCHEDULES)
def test_whole_paths_of_a_gaussian(name: str) -> None:
    schedule = SCHEDULES[name]
    coarse, fine = {"linear_40_steps": (10, 40)}.get(name, (50, 200))
    errors = {solver: ode_error(name, solver, time_grid(schedule, fine)) for solver in DETERMINISTIC}
    assert errors["euler"] < 5 / fine and max(errors["heun"], errors["dpmpp_2m"]) < 0.6 * errors["euler"], errors
    for solver, error in errors.items():
        assert error < ode_error(name, solver, time_grid(schedule, coarse)) / 2


@pytest.mark.parametrize("solver", DETERMINISTIC)
@pytest.mark.parametrize("name", SCHEDULES)
def test_data_of_one_point_is_met_exactly(name: str, solver: str) -> None:
    schedule = SCHEDULES[name]
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    end = SOLVERS[solver](lambda x_t, t: Denoised(torch.full_like(x_t, 0.25)), schedule, x, time_grid(schedule, 4), no_noise)
    assert end.dtype == torch.float32
    torch.testing.assert_close(end, torch.full_like(x, 0.25))


@pytest.mark.parametrize("name", SCHEDULES)
def test_euler_is_ddim_without_noise(name: str) -> None:
    schedule, times = SCHEDULES[name], time_grid(SCHEDULES[name], 10)
    denoise = nonlinear(schedule)
    torch.testing.assert_close(
        euler(denoise, schedule, W, times, no_noise), ddim(denoise, schedule, W, times, no_noise), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddpm_is_ddim_with_all_its_noise(name: str) -> None:
    schedule, times = SCHEDULES[name], time_grid(SCHEDULES[name], 10)
    denoise = nonlinear(schedule)
    unit = torch.randn(10, *W.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(
        ddpm(denoise, schedule, W, times, lambda i: unit[i]),
        ddim(denoise, schedule, W, times, lambda i: unit[i], eta=1.0),
        rtol=0,
        atol=1e-12,
    )


def end_of_ddpm(schedule: Schedule, times: Tensor, denoise: Denoise) -> tuple[float, float]:
    """Exact mean and standard deviation of ddpm's result from x ~ the true x_1: it is affine in x and every noise."""
    steps, start = len(times) - 1, float(times[0])
    # rows: the mean path, one unit of the starting spread, then one unit of each step's noise
    w = torch.zeros(steps + 2, 1, 1, 1, dtype=torch.float64)
    w[1] = 1

    def noise(i: int) -> Tensor:
        return (torch.arange(steps + 2) == i + 2).double().view(-1, 1, 1, 1)

    end = ddpm(denoise, schedule, on_path(schedule, start, w), times, noise).flatten()
    return float(end[0]), float((end[1:] - end[0]).square().sum().sqrt())


@pytest.mark.parametrize("name", ["linear", "linear_zero_terminal", "cosine", "rectified_flow"])
def test_ddpm_converges_to_the_distribution(name: str) -> None:
    schedule = SCHEDULES[name]
    results = [end_of_ddpm(schedule, time_grid(schedule, steps), exact_denoiser(schedule)) for steps in (50, 100, 200)]
    assert all(mean == pytest.approx(MEAN, abs=1e-9) for mean, _ in results)
    errors = [abs(std - STD) for _, std in results]
    assert errors[0] > 1.6 * errors[1] and errors[1] > 1.6 * errors[2] and errors[2] < 0.05 * STD, errors


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_learned_variance_makes_every_step_exact(name: str) -> None:
    """With the true reverse variance, posterior + x_0_weight^2 Var[x_0 | x_t], ten steps keep the true distribution."""
    schedule = SCHEDULES[name]
    times = torch.cat([time_grid(schedule, 10)[:-1], torch.tensor([0.05 if name != "linear_40_steps" else 0.025])])
    level = schedule.level(times)
    later, earlier = NoiseLevel(level.alpha[:-1], level.sigma[:-1]), NoiseLevel(level.alpha[1:], level.sigma[1:])
    steps, denoise = posterior(later, earlier), exact_denoiser(schedule)

    def learned(x_t: Tensor, t: float) -> Denoised:
        i = int((times - t).abs().argmin())
        alpha, sigma = later.alpha[i], later.sigma[i]
        left = 1 / (1 / STD**2 + (alpha / sigma) ** 2)
        true = torch.log(steps.variance[i] + steps.x_0_weight[i] ** 2 * left)
        low, high = steps.variance[i].log(), steps.beta[i].log()
        return Denoised(denoise(x_t, t).x_0, (2 * (true - low) / (high - low) - 1).expand(x_t.shape))

    end = float(times[-1])
    mean, std = end_of_ddpm(schedule, times, learned)
    alpha = float(schedule.level(times[-1]).alpha)
    assert mean == pytest.approx(alpha * MEAN, abs=1e-9) and std == pytest.approx(spread(schedule, end), rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_noise_and_reports(solver: str) -> None:
    schedule, seen, drawn, reported = SCHEDULES["rectified_flow"], [], [], []

    def denoise(x_t: Tensor, t: float) -> Denoised:
        seen.append(t)
        return Denoised(0.5 * x_t)

    def noise(step: int) -> Tensor:
        drawn.append(step)
        return torch.zeros_like(W)

    times = time_grid(schedule, 6)
    SOLVERS[solver](denoise, schedule, W, times, noise, lambda step, x_0: reported.append((step, x_0.shape)))
    assert len(seen) == (11 if solver == "heun" else 6)
    assert seen[0] == 1 and min(seen) > 0
    assert drawn == (list(range(5)) if solver == "ddpm" else [])
    assert reported == [(step, W.shape) for step in range(6)]


@pytest.mark.parametrize("solver", SOLVERS)
def test_eps_networks_start_at_pure_noise_without_infinities(solver: str) -> None:
    for name in ("rectified_flow", "linear_zero_terminal"):
        schedule = SCHEDULES[name]

        def denoise(x_t: Tensor, t: float, schedule: Schedule = schedule) -> Denoised:
            return Denoised(to_x_0("eps", 0.9 * x_t, x_t, schedule.level(torch.tensor(t))))

        end = SOLVERS[solver](denoise, schedule, W, time_grid(schedule, 8), lambda i: torch.ones_like(W))
        assert bool(end.isfinite().all())


@pytest.mark.parametrize("name", ["rectified_flow", "linear_zero_terminal"])
def test_from_pure_noise_a_stochastic_step_takes_nothing_of_the_noise_it_leaves(name: str) -> None:
    """alpha_t = 0 and eta = 1: x_s = alpha_s x_0 + sigma_s noise, and the root of sigma_s^2 - variance = 0 is never NaN."""
    schedule = SCHEDULES[name]
    for steps in range(1, 40):
        times = time_grid(schedule, steps)[:2]
        level = schedule.level(times)
        assert float(level.alpha[0]) == 0
        found = ddim(lambda x_t, t: Denoised(0.3 * W), schedule, 7 + W, times, lambda i: 1 - W, eta=1.0)
        # a variance off by eps leaves sqrt(eps) of the noise there was
        torch.testing.assert_close(found, level.alpha[1] * 0.3 * W + level.sigma[1] * (1 - W), rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_grid_that_does_not_decrease_is_refused(solver: str) -> None:
    for times in ([0.0, 1.0], [1.0, 0.5, 0.5, 0.0], [1.0]):
        with pytest.raises(ConfigError, match="do not decrease"):
            SOLVERS[solver](nonlinear(SCHEDULES["cosine"]), SCHEDULES["cosine"], W, torch.tensor(times), no_noise)
