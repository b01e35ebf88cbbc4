"""Noising a batch: times, dropped conditions and every other random number of a training step, by (seed, position, purpose)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.dropout import draw_kept
from open_ldm.conditioning.semantic import noise_shape
from open_ldm.core import counter_noise, seeds
from open_ldm.core.device import moved
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.process.time_density import TimeDensityConfig, times


@dataclass(frozen=True)
class ObjectiveInputs:
    """What the objective reads of B pictures.

    Attributes:
        x_0: Clean normalised latents [B, C, H, W].
        t: Times [B] in [0, 1], 1 = noise.
        inputs: Conditions, with which of them are kept.
        draws: Gives the noise of each picture, and whatever a denoiser draws for its masks.
        mean: Normalised mean of each posterior, [B, C, H, W], where an alignment asks for it.
    """

    x_0: Tensor
    t: Tensor
    inputs: ConditionInputs
    draws: seeds.Draws
    mean: Tensor | None = None


@dataclass(frozen=True)
class Noising:
    """How the batches of a run are noised; no random number depends on what else is in a batch (docs/reliability.md, 3.2).

    Attributes:
        seed: The seed of the run.
        batch_size: Number of pictures in a global batch, which also has random numbers that all its micro-batches share.
        stats: Latent statistics, which normalise raw latents.
        conditioning: Settings of the conditions: rates of dropping, kind of padding.
        time_density: The density that times are drawn from.
        discrete_steps: Number of steps of the noise schedule; None for a continuous one.
        device: The device that the objective is computed on.
        keeps_mean: The mean of each posterior is kept beside a draw of it.
        counted_padding: Padding noise is drawn on that device, by counters (core/counter_noise.py), when a batch is used.
    """

    seed: int
    batch_size: int
    stats: LatentStats
    conditioning: ConditioningConfig
    time_density: TimeDensityConfig
    discrete_steps: int | None
    device: torch.device
    counted_padding: bool = False
    keeps_mean: bool = False
    _asked: dict[tuple[int, ...], dict[seeds.Wanted, None]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def draw(self, batch: EncodedBatch) -> ObjectiveInputs:
        """Draw all random numbers of a batch.

        Args:
            batch: Posteriors [B, C, H, W] of raw latents with their positions and conditions.

        Returns:
            Normalised latents at one draw of each posterior, a time for each, kept and dropped conditions, padding noise unless
            `padded` adds it.
        """
        positions, raw = batch.positions, batch.posterior.mean
        shape = tuple(raw.shape[1:])
        if batch.posterior.std is not None:
            raw = raw + batch.posterior.std * self._to(seeds.normal(self.seed, "posterior", positions, shape))
        kept = draw_kept(self.seed, positions, self.conditioning.semantic_drop, self.conditioning.control_drop)
        noise = None if self.counted_padding else noise_shape(self.conditioning.semantic)
        inputs = ConditionInputs(
            keep_semantic=kept.semantic,
            keep_control=kept.control,
            labels=batch.labels,
            text=batch.text,
            controls=batch.controls,
            padding_noise=None if noise is None else seeds.normal(self.seed, "padding", positions, noise),
        )
        u = seeds.uniform(self.seed, "time", positions)
        return ObjectiveInputs(
            x_0=self.stats.normalise(raw),
            t=self._to(times(self.time_density, u, self.discrete_steps)),
            inputs=inputs.to(self.device),
            draws=seeds.Draws(self.seed, positions, self.batch_size, self.device, self._asked.setdefault(shape, {})).drawn(),
            mean=self.stats.normalise(batch.posterior.mean) if self.keeps_mean else None,
        )

    def padded(self, batch: ObjectiveInputs) -> ObjectiveInputs:
        """Return inputs with their padding noise, where it is drawn when they are used: it would fill the device's memory."""
        noise = noise_shape(self.conditioning.semantic)
        if noise is None or not self.counted_padding:
            return batch
        drawn = counter_noise.normal(self.seed, "padding", batch.draws.positions, noise, self.device)
        return replace(batch, inputs=replace(batch.inputs, padding_noise=drawn))

    def _to(self, tensor: Tensor) -> Tensor:
        return moved(tensor, self.device)
