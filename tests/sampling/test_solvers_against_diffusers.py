"""The same numbers through the published schedulers. Theirs are float32 tables, hence the tolerances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor

from open_ldm.process.prediction import Denoised, PredictionKind, to_x_0
from open_ldm.process.schedules import LinearSchedule, ScaledLinearSchedule, Schedule, build_schedule
from open_ldm.sampling.solvers import Denoise, Noise, ddim, ddpm, dpmpp_2m, euler, heun
from open_ldm.sampling.time_grid import Spacing, time_grid
from tests.process.cases import SCHEDULES

SHAPE = (2, 3, 4, 5)
STEPS = 10


def draws(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def network(x_t: Tensor, network_time: float) -> Tensor:
    """Some smooth function in the place of a network."""
    return torch.sin(1.3 * x_t + network_time / 300) + 0.2 * x_t


def through(schedule: Schedule, kind: PredictionKind, fraction: Tensor | None = None) -> Denoise:
    def denoise(x_t: Tensor, t: float) -> Denoised:
        time = torch.tensor(t, dtype=torch.float64)
        output = network(x_t, float(schedule.network_time(time)))
        return Denoised(to_x_0(kind, output, x_t, schedule.level(time)), fraction)

    return denoise


def always(unit: Tensor) -> Noise:
    return lambda step: unit


def never(step: int) -> Tensor:
    raise AssertionError("noise asked for")


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_ddim(kind: PredictionKind, eta: float) -> None:
    schedule = build_schedule(ScaledLinearSchedule(zero_terminal_snr=kind == "v"))
    published = DDIMScheduler(
        1000,
        0.00085,
        0.012,
        "scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[kind],
        rescale_betas_zero_snr=kind == "v",
    )
    published.set_timesteps(STEPS)
    # Where alpha_t = 0, the posterior's variance is sigma_s^2 and eta = 1 leaves the root of zero, which float32 rounds to the
    # root of up to 1e-7 on either side: NaN or 3e-4. Both are compared from the next time on.
    first = 1 if kind == "v" and eta == 1 else 0
    x, *noises = draws(STEPS + 1)
    theirs = x
    for i, timestep in enumerate(published.timesteps.tolist()[first:]):
        output = network(theirs, timestep)
        theirs = published.step(output, timestep, theirs, eta=eta, variance_noise=noises[i] if eta else None).prev_sample
    times = time_grid(schedule, STEPS)[first:]
    ours = ddim(through(schedule, kind), schedule, x, times, lambda i: noises[i], eta=eta)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_ddim_as_in_latent_diffusion() -> None:
    """Leading steps moved up by one, and an end at the first point of the table in place of clean latents."""
    schedule = build_schedule(ScaledLinearSchedule(beta_start=0.0015, beta_end=0.0195))
    settings = {"clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}
    published = DDIMScheduler(1000, 0.0015, 0.0195, "scaled_linear", **settings)
    published.set_timesteps(STEPS)
    x = theirs = draws(1)[0]
    for timestep in published.timesteps.tolist():
        theirs = published.step(network(theirs, timestep), timestep, theirs).prev_sample
    times = time_grid(schedule, STEPS, "ldm_uniform")
    ours = ddim(through(schedule, "eps"), schedule, x, times, never)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    to_the_data = torch.cat([times[:-1], torch.zeros(1)])
    assert not torch.allclose(ddim(through(schedule, "eps"), schedule, x, to_the_data, never), theirs, atol=1e-2)


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_ddpm_step_by_step(variance: str, spacing: Spacing) -> None:
    schedule = build_schedule(LinearSchedule())
    published = DDPMScheduler(1000, 1e-4, 0.02, "linear", variance_type=variance, clip_sample=False, timestep_spacing=spacing)
    published.set_timesteps(STEPS)
    times = time_grid(schedule, STEPS, spacing)
    x, raw = draws(2)
    fraction = torch.tanh(raw) if variance == "learned_range" else None
    # their last step adds noise of a variance clamped at 1e-20; ours, like the paper's, adds none
    for i, timestep in enumerate(published.timesteps.tolist()[:-1]):
        output = network(x, timestep)
        output = output if fraction is None else torch.cat([output, fraction], 1)
        theirs = published.step(output, timestep, x, generator=torch.Generator().manual_seed(i)).prev_sample
        unit = torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        ours = ddpm(through(schedule, "eps", fraction), schedule, x, times[i : i + 2], always(unit))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [2, STEPS])
def test_dpmpp_2m(steps: int) -> None:
    schedule = build_schedule(LinearSchedule())
    published = DPMSolverMultistepScheduler(
        1000,
        1e-4,
        0.02,
        "linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    published.set_timesteps(steps)
    x = draws(1)[0]
    theirs = x
    for timestep in published.timesteps.tolist():
        theirs = published.step(network(theirs, timestep), timestep, theirs).prev_sample
    times = time_grid(schedule, steps)
    assert schedule.network_time(times[:-1]).tolist() == published.timesteps.tolist()
    ours = dpmpp_2m(through(schedule, "eps"), schedule, x, times, never)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_dpmpp_2m_as_in_pixart() -> None:
    """DPM-Solver's time_uniform, with so many steps that all times are points; it ends at the first point."""
    schedule, steps = build_schedule(LinearSchedule()), 27
    published = DPMSolverMultistepScheduler(
        1000, 1e-4, 0.02, "linear", timestep_spacing="linspace", final_sigmas_type="sigma_min", euler_at_final=False
    )
    published.set_timesteps(steps)
    x = theirs = draws(1)[0]
    for timestep in published.timesteps.tolist():
        theirs = published.step(network(theirs, timestep), timestep, theirs).prev_sample
    times = time_grid(schedule, steps, "time_uniform")
    ours = dpmpp_2m(through(schedule, "eps"), schedule, x, times, never)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_flow_match_euler() -> None:
    published = FlowMatchEulerDiscreteScheduler()
    published.set_timesteps(sigmas=np.linspace(1, 1 / STEPS, STEPS).tolist())
    x = draws(1)[0].float()
    theirs = x
    for timestep in published.timesteps:
        theirs = published.step(network(theirs, float(timestep)), timestep, theirs).prev_sample
    schedule = SCHEDULES["rectified_flow"]
    times = time_grid(schedule, STEPS)
    torch.testing.assert_close(times, published.sigmas.double(), rtol=0, atol=1e-6)
    ours = euler(through(schedule, "velocity"), schedule, x, times, never)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_flow_match_heun() -> None:
    published = FlowMatchHeunDiscreteScheduler()
    published.set_timesteps(STEPS)
    x = draws(1)[0].float()
    theirs = x
    for timestep in published.timesteps:
        theirs = published.step(network(theirs, float(timestep)), timestep, theirs).prev_sample
    schedule = SCHEDULES["rectified_flow"]
    times = torch.unique(published.sigmas.double()).flip(0)
    assert len(times) == STEPS + 1
    ours = heun(through(schedule, "velocity"), schedule, x, times, never)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
