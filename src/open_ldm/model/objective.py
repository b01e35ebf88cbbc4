"""The training objective: one module from a noised batch to the loss of each of its pictures."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.denoisers import Prediction
from open_ldm.denoisers.base import TrainingPass
from open_ldm.model.alignment import AlignmentConfig
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import ObjectiveInputs
from open_ldm.process.learned_variance import variational_bound_bits
from open_ldm.process.prediction import target
from open_ldm.process.time_density import LogitNormalTimes, TimeDensityConfig
from open_ldm.process.weighting import UniformWeighting, WeightingConfig, weight


class ObjectiveConfig(Config):
    """What is trained.

    Attributes:
        times: Which times, and how often.
        weighting: How much each counts.
        alignment: Aligns a layer to the autoencoder's own encoder; null, the default, aligns none.
    """

    times: TimeDensityConfig = LogitNormalTimes()
    weighting: WeightingConfig = UniformWeighting()
    alignment: AlignmentConfig | None = None

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("alignment",))


class Objective(nn.Module):
    """What a model's prediction should have been, and how far off it is.

    This module is the root of a training step: whatever wraps or compiles a model for training wraps it. It has no parameters
    besides the model's, and a checkpoint holds the model's tensors under the model's own names.
    """

    def __init__(self, model: DiffusionModel, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: ObjectiveInputs) -> Tensor:
        """Return the loss of each picture, summed over the denoiser's training passes, the first of which has all tokens.

            loss = weight(t) mean |prediction - target|^2

        and with a learned variance plus the variational bound in bits per dimension, whose mean is detached (the hybrid loss of
        Nichol & Dhariwal 2021, eq. 16, without their factor 1/1000, as DiT). A model with an alignment adds the weighted error
        of that in the first pass.

        Args:
            batch: Clean latents x_0 [B, C, H, W] with their times, conditions and draws.

        Returns:
            Losses [B], float32, at least 0.
        """
        time = self.model.schedule.network_time(batch.t)
        conditions = self.model.conditioning(batch.inputs, batch.t)
        passes = self.model.denoiser.training_passes(batch.draws)
        first, *others = passes
        loss = self._first(first, batch, time, conditions)
        return sum((self._loss(one, batch, time, conditions) for one in others), start=loss)

    def _first(self, one: TrainingPass, batch: ObjectiveInputs, time: Tensor, conditions: Conditions) -> Tensor:
        """Loss [B] of a pass with the error of the alignment, where there is one."""
        alignment, config = self.model.alignment, self.config.alignment
        if alignment is None or config is None:
            return self._loss(one, batch, time, conditions)
        if batch.mean is None:
            raise ValueError("an alignment needs the mean of each posterior")
        with alignment.watching(self.model.denoiser) as seen:
            loss = self._loss(one, batch, time, conditions)
        error: Tensor = alignment(seen[0], batch.mean, self.model.denoiser)
        return loss + config.weight * error

    def _loss(self, one: TrainingPass, batch: ObjectiveInputs, time: Tensor, conditions: Conditions) -> Tensor:
        """Loss [B] of one pass, which has noise of its own."""
        model, x_0, t = self.model, batch.x_0, batch.t
        level = model.schedule.level(t)
        eps = batch.draws.normal(one.noise, x_0.shape[1:])
        x_t = model.schedule.noised(x_0, eps, t)
        prediction: Prediction = one.forward(x_t, time, conditions)
        error = (prediction.mean - target(model.kind, x_0, eps, level)).square().flatten(1).mean(dim=1)
        loss = weight(self.config.weighting, model.kind, level) * error
        if prediction.variance_fraction is not None:
            denoised = model.as_denoised(prediction, x_t, t)
            loss = loss + variational_bound_bits(model.schedule, x_0, x_t, t, denoised)
        return loss
