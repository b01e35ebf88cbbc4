"""The training objective: what a model's prediction should have been, and how far off it is."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

from open_ldm.conditioning import ConditionInputs
from open_ldm.core.config import Config
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import Prediction
from open_ldm.denoisers.base import TrainingPass
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.process.learned_variance import variational_bound_bits
from open_ldm.process.prediction import target
from open_ldm.process.time_density import LogitNormalTimes, TimeDensityConfig
from open_ldm.process.weighting import UniformWeighting, WeightingConfig, weight

Losses: TypeAlias = Tensor


class ObjectiveConfig(Config):
    """Which times are trained on and how much each counts."""

    times: TimeDensityConfig = LogitNormalTimes()
    weighting: WeightingConfig = UniformWeighting()


def losses(
    model: DiffusionModel, objective: ObjectiveConfig, x_0: Tensor, t: Tensor, inputs: ConditionInputs, draws: Draws
) -> Losses:
    """Loss of each picture [B], summed over the denoiser's training passes; `draws` gives the noise of each.

    weight(t) mean |prediction - target|^2, and with a learned variance + the variational bound in bits per dimension, whose
    mean is detached (iDDPM hybrid loss, Nichol & Dhariwal 2021, eq. 16, without their factor 1/1000, as DiT).
    """
    time = model.schedule.network_time(t)
    conditions = model.conditioning(inputs, t)
    level = model.schedule.level(t)
    scale = weight(objective.weighting, model.kind, level)

    def loss_of(one: TrainingPass) -> Losses:
        eps = draws.normal(one.noise, x_0.shape[1:])
        x_t = model.schedule.noised(x_0, eps, t)
        prediction: Prediction = one.forward(x_t, time, conditions)
        error = (prediction.mean - target(model.kind, x_0, eps, level)).square().flatten(1).mean(dim=1)
        total = scale * error
        if prediction.variance_fraction is not None:
            denoised = model.as_denoised(prediction, x_t, t)
            total = total + variational_bound_bits(model.schedule, x_0, x_t, t, denoised)
        return total

    passes = [loss_of(one) for one in model.denoiser.training_passes(draws)]
    return sum(passes[1:], start=passes[0])
