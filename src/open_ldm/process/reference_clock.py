"""The noise level as a time: one number in [0, 1] that means the same noise under every schedule (docs/method.md, 1).

u(t) is the time at which a reference schedule, the linear table of DDPM (betas from 1e-4 to 0.02 in 1000 steps), has the SNR
that the schedule in use has at t. Under that table itself u = t. Elsewhere the same t is another noise: the log-SNR of u = 0.5
is -2.5, which rectified flow reaches at t = 0.77 and latent diffusion's scaled_linear at t = 0.71.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from open_ldm.process.schedules import LinearSchedule, Schedule, TableSchedule, build_schedule


def reference_time(schedule: Schedule, t: Tensor) -> Tensor:
    """Compute u(t), the reference table's time of equal SNR.

    Args:
        schedule: The schedule in use, rescaled for another resolution or not.
        t: Its times in [0, 1], of any shape.

    Returns:
        u(t) in [0, 1], in the shape and dtype of `t`: 0 at t = 0, and exactly 1 wherever the SNR is at most the reference's
        lowest (log-SNR -10.1). A schedule that ends in less noise ends below 1: scaled_linear of latent diffusion at 0.73.
    """
    return _reference().time_of(schedule.level(schedule.exact_time(t))).to(t.dtype)


@cache
def _reference() -> TableSchedule:
    with torch.device("cpu"):  # its numbers are wanted even where a model is only counted (meta device)
        reference = build_schedule(LinearSchedule())
    assert isinstance(reference, TableSchedule)
    return reference
