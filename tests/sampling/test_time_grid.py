from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from open_ldm.core.errors import ConfigError
from open_ldm.process.schedules import LinearSchedule, build_schedule
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.time_grid import Spacing, time_grid
from tests.process.cases import SCHEDULES


@pytest.mark.parametrize("name", SCHEDULES)
def test_from_noise_to_data_on_points_of_the_schedule(name: str) -> None:
    schedule = SCHEDULES[name]
    points = schedule.discrete_steps
    for steps in (*range(1, 41), *((333, 667, 999, 1000) if points in (None, 1000) else ())):
        times = time_grid(schedule, steps)
        assert times.dtype == torch.float64 and len(times) == steps + 1
        assert times[0] == 1 and times[-1] == 0 and bool((times.diff() < 0).all())
        if points is not None:
            assert torch.equal(times, (times * points).round() / points)


def test_trailing_spacing_of_diffusers() -> None:
    published = DDPMScheduler()
    published.config.timestep_spacing = "trailing"
    published.set_timesteps(50)
    times = time_grid(SCHEDULES["linear"], 50)
    assert SCHEDULES["linear"].network_time(times[:-1]).tolist() == published.timesteps.tolist()


def test_impossible_numbers_of_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="between 1 and 40"):
        time_grid(SCHEDULES["linear_40_steps"], 41)
    for schedule in SCHEDULES.values():
        with pytest.raises(ConfigError, match="0 steps here"):
            time_grid(schedule, 0)
    assert len(time_grid(SCHEDULES["rectified_flow"], 5000)) == 5001


def indices(spacing: Spacing, steps: int, schedule: str = "linear") -> list[float]:
    """What a network of a DDPM table is told at every step."""
    times = time_grid(SCHEDULES[schedule], steps, spacing)
    return SCHEDULES[schedule].network_time(times[:-1]).tolist()


def space_timesteps(count: int, points: int) -> list[int]:
    """Improved DDPM's rule for one section: an even stride of (points - 1) / (count - 1), rounded at every step."""
    stride, at, taken = (points - 1) / (count - 1), 0.0, []
    for _ in range(count):
        taken.append(round(at))
        at += stride
    return taken[::-1]


@pytest.mark.parametrize("spacing", get_args(Spacing))
@pytest.mark.parametrize("name", [name for name, schedule in SCHEDULES.items() if schedule.discrete_steps])
def test_every_spacing_decreases_to_its_end(name: str, spacing: Spacing) -> None:
    schedule = SCHEDULES[name]
    if spacing == "log_snr" and not bool(schedule.log_snr(torch.ones((), dtype=torch.float64)).isfinite()):
        with pytest.raises(ConfigError, match="keeps some signal"):
            time_grid(schedule, 10, spacing)
        return
    points = schedule.discrete_steps or 0
    for steps in (2, 3, 7, 20, 39, *((50, 250, 999) if points == 1000 else ())):
        times = time_grid(schedule, steps, spacing)
        assert times.dtype == torch.float64 and len(times) == steps + 1 and bool((times.diff() < 0).all())
        assert times[-1] == (1 / points if spacing in ("ldm_uniform", "time_uniform", "log_snr") else 0)
        if spacing in ("leading", "ldm_uniform"):
            assert 1 - (points // steps + points % steps) / points <= times[0] <= 1
        else:
            assert times[0] == 1


@pytest.mark.parametrize("steps", [2, 7, 20, 50, 250, 999])
def test_spacings_of_diffusers(steps: int) -> None:
    theirs: dict[Spacing, dict[str, Any]] = {
        "leading": {"timestep_spacing": "leading"},
        "ldm_uniform": {"timestep_spacing": "leading", "steps_offset": 1},
        "linspace": {"timestep_spacing": "linspace"},
    }
    for spacing, settings in theirs.items():
        for kind in (DDIMScheduler, DDPMScheduler):
            published = kind(**settings)
            published.set_timesteps(steps)
            assert indices(spacing, steps) == published.timesteps.tolist(), (spacing, kind)


@pytest.mark.parametrize("steps", [2, 10, 50, 250, 1000])
def test_linspace_is_the_respacing_of_improved_ddpm(steps: int) -> None:
    assert indices("linspace", steps) == space_timesteps(steps, 1000)
    if steps <= 40:
        times = time_grid(SCHEDULES["linear_40_steps"], steps, "linspace")[:-1]
        assert (times * 40 - 1).round().tolist() == space_timesteps(steps, 40)


@pytest.mark.parametrize("steps", [20, 50, 200, 250])
def test_ldm_uniform_is_the_grid_of_latent_diffusion(steps: int) -> None:
    wanted = [i + 1 for i in range(0, 1000, 1000 // steps)][::-1]
    assert indices("ldm_uniform", steps) == wanted


@pytest.mark.parametrize("steps", [1, 20, 37])
def test_time_uniform_is_that_of_dpm_solver(steps: int) -> None:
    times = time_grid(SCHEDULES["linear"], steps, "time_uniform")
    wanted = [1 + k * (0.001 - 1) / steps for k in range(steps + 1)]
    torch.testing.assert_close(times, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-15)
    published = DPMSolverMultistepScheduler(timestep_spacing="linspace")
    published.set_timesteps(steps)
    told = SCHEDULES["linear"].network_time(times[:-1])
    assert float((told - published.timesteps.double()).abs().max()) <= 0.5  # theirs are rounded to points


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "linear_rescaled", "linear_40_steps"])
def test_log_snr_is_even_in_it(name: str) -> None:
    schedule = SCHEDULES[name]
    found = schedule.log_snr(time_grid(schedule, 20, "log_snr"))
    points = schedule.discrete_steps or 0
    ends = schedule.log_snr(torch.tensor([1, 1 / points], dtype=torch.float64)).tolist()
    torch.testing.assert_close(found, torch.linspace(*ends, 21, dtype=torch.float64), rtol=0, atol=1e-9)


def test_log_snr_is_near_that_of_diffusers() -> None:
    published = DPMSolverMultistepScheduler(1000, 1e-4, 0.02, "linear", use_lu_lambdas=True)
    published.set_timesteps(21)  # as many points as 20 steps have ends
    told = SCHEDULES["linear"].network_time(time_grid(SCHEDULES["linear"], 20, "log_snr"))
    assert float((told - published.timesteps.double()).abs().max()) <= 1  # theirs are rounded to points


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_grid_of_stable_diffusion_3(shift: float) -> None:
    published = FlowMatchEulerDiscreteScheduler(shift=shift)
    published.set_timesteps(28)
    times = time_grid(SCHEDULES["rectified_flow"], 28, "linspace", shift)
    torch.testing.assert_close(times, published.sigmas.double(), rtol=0, atol=1e-6)
    even = time_grid(SCHEDULES["rectified_flow"], 28, "trailing", shift)
    again = torch.linspace(1, 0, 29, dtype=torch.float64)
    torch.testing.assert_close(even, shift * again / (1 + (shift - 1) * again), rtol=0, atol=1e-15)


def test_what_a_schedule_does_not_have_is_refused() -> None:
    for spacing in ("leading", "ldm_uniform", "time_uniform", "log_snr"):
        with pytest.raises(ConfigError, match="needs a schedule of discrete steps"):
            time_grid(SCHEDULES["rectified_flow"], 10, spacing)
    with pytest.raises(ConfigError, match="no meaning for a table"):
        time_grid(SCHEDULES["linear"], 10, "linspace", 3.0)
    with pytest.raises(ConfigError, match="between 1 and 39"):
        time_grid(SCHEDULES["linear_40_steps"], 40, "ldm_uniform")
    with pytest.raises(ConfigError, match="keeps some signal"):
        time_grid(build_schedule(LinearSchedule(zero_terminal_snr=True)), 10, "log_snr")


@pytest.mark.parametrize("spacing", get_args(Spacing))
def test_one_step_goes_from_the_noise_to_the_end(spacing: Spacing) -> None:
    end = 0.001 if spacing in ("ldm_uniform", "time_uniform", "log_snr") else 0
    assert time_grid(SCHEDULES["linear"], 1, spacing).tolist() == [1, end]
    if spacing in ("trailing", "linspace"):
        assert time_grid(SCHEDULES["rectified_flow"], 1, spacing, 3.0).tolist() == [1, 0]


def test_at_its_default_nothing_is_written() -> None:
    assert not {"spacing", "time_shift"} & SamplingConfig().model_dump().keys()
    written = SamplingConfig(spacing="linspace", time_shift=3.0).model_dump(mode="json")
    assert (written["spacing"], written["time_shift"]) == ("linspace", 3.0)
    assert SamplingConfig.model_validate(written).spacing == "linspace"
