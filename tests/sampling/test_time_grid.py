from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from open_ldm.core.errors import ConfigError
from open_ldm.sampling.time_grid import time_grid
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
