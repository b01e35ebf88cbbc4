"""The times that a sampler visits."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.process.schedules import Schedule


def time_grid(schedule: Schedule, steps: int) -> Tensor:
    """Space times evenly from noise to data.

    For a discrete schedule every time is one of its points, the nearest to the even spacing ("trailing" spacing: the
    first step starts at the noisiest point, arXiv 2305.08891, section 3.3).

    Args:
        schedule: The noise schedule.
        steps: Of the sampler.

    Returns:
        `steps` + 1 times, float64, decreasing from exactly 1 (noise) to exactly 0 (data).

    Raises:
        ConfigError: There are fewer than 1 step, or more than a discrete schedule has.
    """
    points = schedule.discrete_steps
    if steps < 1 or (points is not None and steps > points):
        limit = f"between 1 and {points}, the steps of the schedule" if points is not None else "at least 1"
        raise ConfigError(f"a sampler cannot take {steps} steps here", needed=limit, fix="change the number of steps")
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return even if points is None else torch.floor(even * points + 0.5) / points
