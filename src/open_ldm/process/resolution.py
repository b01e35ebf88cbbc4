"""The noise schedule for pictures of another size: the same uncertainty at the same time (arXiv 2411.03177; method, 5.2).

When a picture grows from side s to side s', every value of it is observed (s'/s)^2 times, each time under independent noise,
and these observations average the noise away. Dividing the SNR of every time by that number undoes this. In log-SNR it is
one shift, -2 ln(s'/s), for every schedule:

    tables of beta    alpha_bar' = s^2 alpha_bar / (s'^2 + alpha_bar (s^2 - s'^2))
    rectified flow    t' = k t / (1 + (k - 1) t) instead of t, k = s'/s

The shift applies in training and in sampling alike; their times are distributed over t as before.
"""

from __future__ import annotations

import math

from pydantic import PositiveInt, model_validator
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.process.schedules import NoiseLevel, Schedule

Size = PositiveInt | tuple[PositiveInt, PositiveInt]
"""Side of square pictures in pixels, or (height, width)."""


class ResolutionConfig(Config):
    """The size that a schedule was made for (`from_px`) and the size it is used at (`to_px`); only their areas matter."""

    from_px: Size
    to_px: Size

    @model_validator(mode="after")
    def _changes_something(self) -> ResolutionConfig:
        if self.log_snr_shift == 0:
            raise ValueError(f"from_px={self.from_px} to_px={self.to_px} has no effect; needed: two sizes, or null")
        return self

    @property
    def log_snr_shift(self) -> float:
        """The number added to the log-SNR of every time: -2 ln(s'/s), below 0 for larger pictures."""
        return -math.log(area(self.to_px) / area(self.from_px))


class RescaledSchedule(Schedule):
    """`inner` with its log-SNR shifted, at the same scale.

    The network receives the time of `inner`, not that of the shifted level. At time t it therefore meets the uncertainty
    that it met at t in pre-training. Differs from Stable Diffusion 3, whose network receives 1000 times the shifted sigma.
    """

    def __init__(self, inner: Schedule, log_snr_shift: float) -> None:
        self.inner = inner
        self.discrete_steps = inner.discrete_steps
        self._noise = math.exp(-log_snr_shift / 2)

    def level(self, t: Tensor) -> NoiseLevel:
        """Return the level of `inner` at t with sigma multiplied by exp(-shift / 2), brought to the scale of `inner`."""
        level = self.inner.level(self.inner.exact_time(t))
        shifted = self.inner.scaled(NoiseLevel(level.alpha, level.sigma * self._noise))
        return NoiseLevel(shifted.alpha.to(t.dtype), shifted.sigma.to(t.dtype))

    def scaled(self, level: NoiseLevel) -> NoiseLevel:
        """Bring a level to the scale of `inner`."""
        return self.inner.scaled(level)

    def network_time(self, t: Tensor) -> Tensor:
        """Return the time that the network receives under `inner`."""
        return self.inner.network_time(t)

    def exact_time(self, t: Tensor) -> Tensor:
        """Return t rounded as `inner` rounds it."""
        return self.inner.exact_time(t)


def rescaled(schedule: Schedule, resolution: ResolutionConfig | None) -> Schedule:
    """Return the schedule at another picture size; for None, return the schedule itself."""
    return schedule if resolution is None else RescaledSchedule(schedule, resolution.log_snr_shift)


def area(size: int | tuple[int, int]) -> int:
    """Return the number of pixels of a picture, given its side or its (height, width)."""
    return size * size if isinstance(size, int) else size[0] * size[1]
