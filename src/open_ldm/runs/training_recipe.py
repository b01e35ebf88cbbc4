"""What the recipe of any training run has, be it of a denoiser or of an autoencoder."""

from __future__ import annotations

from typing import Any, Protocol

from open_ldm.core.config import PlainData
from open_ldm.tracking import Trackers
from open_ldm.training.settings import ParallelConfig, TrainingConfig


class TrainingRecipe(PlainData, Protocol):
    """What the recipe of any training run has."""

    @property
    def name(self) -> str:
        """Name of the recipe and of its default run folder."""

    @property
    def edition(self) -> int:
        """Of the packaged recipe that it is or extends."""

    @property
    def title(self) -> str:
        """The name, with the edition where it is not the first."""

    @property
    def training(self) -> TrainingConfig:
        """Settings of the trainer."""

    @property
    def parallel(self) -> ParallelConfig:
        """How several processes work together."""

    @property
    def track(self) -> Trackers:
        """Where its curves go too."""

    @property
    def numerics(self) -> dict[str, Any]:
        """The settings that change the numbers of training."""
