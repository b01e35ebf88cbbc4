"""The times a sampler visits."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.process.schedules import Schedule


def time_grid(schedule: Schedule, steps: int) -> Tensor:
    """`steps` + 1 times, float64, falling from exactly 1 (noise) to exactly 0 (data), evenly spaced.

    For a discrete schedule every time is one of its points, the nearest to the even spacing ("trailing" spacing: the
    first step starts at the noisiest point, arXiv 2305.08891, section 3.3). Raises ConfigError for fewer than 1 step or
    more than the schedule has.
    """
    points = schedule.discrete_steps
    if steps < 1 or (points is not None and steps > points):
        limit = f"between 1 and {points}, the steps of the schedule" if points is not None else "at least 1"
        raise ConfigError(f"{steps} sampling steps", needed=limit, fix="change the number of steps")
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return even if points is None else torch.floor(even * points + 0.5) / points
