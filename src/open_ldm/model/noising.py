"""Every random draw of a training step, each a function of (seed, sample position, purpose)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.dropout import draw_kept
from open_ldm.conditioning.semantic import noise_shape
from open_ldm.core import seeds
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.process.time_density import TimeDensityConfig, times


@dataclass(frozen=True)
class DrawnBatch:
    """What the objective needs of B pictures: clean latents, times, conditions, and the draws of noise and masks."""

    x_0: Tensor
    t: Tensor
    inputs: ConditionInputs
    draws: seeds.Draws


@dataclass(frozen=True)
class Drawer:
    """Draws for batches of one run. `batch_size`: of the global batch; `discrete_steps`: of the schedule, None for a
    continuous one."""

    seed: int
    batch_size: int
    stats: LatentStats
    conditioning: ConditioningConfig
    time_density: TimeDensityConfig
    discrete_steps: int | None
    device: torch.device

    def draw(self, batch: EncodedBatch) -> DrawnBatch:
        """Latents of a batch with their times, dropped conditions and padding noise, on the device."""
        positions, raw = batch.positions, batch.posterior.mean
        shape = raw.shape[1:]
        if batch.posterior.std is not None:
            raw = raw + batch.posterior.std * self._to(seeds.normal(self.seed, "posterior", positions, shape))
        kept = draw_kept(self.seed, positions, self.conditioning.semantic_drop, self.conditioning.control_drop)
        noise = noise_shape(self.conditioning.semantic)
        inputs = ConditionInputs(
            keep_semantic=kept.semantic,
            keep_control=kept.control,
            labels=batch.labels,
            text=batch.text,
            controls=batch.controls,
            padding_noise=None if noise is None else seeds.normal(self.seed, "padding", positions, noise),
        )
        u = seeds.uniform(self.seed, "time", positions)
        return DrawnBatch(
            x_0=self.stats.normalise(raw),
            t=self._to(times(self.time_density, u, self.discrete_steps)),
            inputs=inputs.to(self.device),
            draws=seeds.Draws(self.seed, positions, self.batch_size, self.device),
        )

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)
