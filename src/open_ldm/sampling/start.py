"""Sampling from a picture instead of from noise: it is noised to a chosen time and denoised again under other conditions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.process.schedules import Schedule


@dataclass(frozen=True, eq=False)
class Start:
    """A picture from which sampling starts (Meng et al. 2022, SDEdit, arXiv 2108.01073).

    x_t = alpha_t x_0 + sigma_t eps at t = strength, with the eps from which ordinary sampling of the same seed starts. At 1
    nothing of the picture is left, also under a table of betas, whose alpha_1 is not quite 0: sampling is the ordinary one.
    Towards 0 the picture comes back as its autoencoder gives it.

    Attributes:
        latents: x_0 of the picture, [1, C, H, W].
        strength: The time t that it is noised to, in (0, 1].

    Raises:
        ConfigError: The strength lies outside.
    """

    latents: Tensor
    strength: float

    def __post_init__(self) -> None:
        check_strength(self.strength)

    def noised(self, eps: Tensor, schedule: Schedule) -> Tensor:
        """Return x_t [B, C, H, W] for unit noise `eps` of that shape."""
        if self.strength == 1:
            return eps
        level = schedule.level(torch.tensor(self.strength, dtype=torch.float64))
        return float(level.alpha) * self.latents.to(eps) + float(level.sigma) * eps

    def times(self, grid: Tensor) -> Tensor:
        """Return the times of the way that is left: t = strength, then those of the `grid` [steps + 1] that lie below.

        A grid that ends above the strength is left at once, for the data.
        """
        if self.strength == 1:
            return grid
        below = grid[grid < self.strength]
        return torch.cat([grid.new_tensor([self.strength]), below if len(below) else grid.new_zeros(1)])


def check_strength(strength: float) -> None:
    """Raise ConfigError for a strength outside (0, 1]."""
    if not 0 < strength <= 1:
        raise ConfigError(f"strength {strength:g}", needed="more than 0, and at most 1: the time that the picture is noised to")
