"""Guidance with two scales, one for what the picture shows and one for how it was made (docs/method.md, 3).

    eps = eps(0, 0) + w_s [ eps(0, s) + w_c (eps(c, s) - eps(0, s)) - eps(0, 0) ]

s: semantic condition, c: control conditions, 0: dropped. 1 means no guidance. It wraps a denoiser from outside, so a
network, and what a condition is, stay unknown here.
Differs from the paper / unverified: two scales are stated there, this form is reconstructed (arXiv 2411.03177).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.later_settings import without_defaults
from open_ldm.process.prediction import Denoised
from open_ldm.process.schedules import NETWORK_STEPS, Schedule
from open_ldm.sampling.rescale import rescaled
from open_ldm.sampling.solvers import Denoise

MOST_SCALE = 10_000.0
"""Nothing is seen but the edges of what can be shown long before, and products of larger ones overflow."""


class ConstantGuidance(Config):
    """The scales as they are, at every time."""

    kind: Literal["constant"] = "constant"


class PowerCosineGuidance(Config):
    """No guidance at noise, all of it at data (MDTv2, arXiv 2303.14389):

        w = 1 + (scale - 1) (1 - cos(pi (1 - i / 1000)^power)) / 2

    with i the time that the network gets: 0..999 under a table of betas, 1000 t under rectified flow.
    """

    kind: Literal["power_cosine"] = "power_cosine"
    power: float = Field(default=4.0, gt=0)


GuidanceScheduleConfig = Annotated[ConstantGuidance | PowerCosineGuidance, Field(discriminator="kind")]


class GuidanceConfig(Config):
    """How strongly conditions are followed; by default there is no guidance.

    Attributes:
        semantic_scale: w_s; 1 is none.
        control_scale: w_c; 1 is none.
        interval: [low, high]: guide only at times low <= t <= high (Kynkäänniemi et al. 2024); null guides always.
        schedule: How the scales depend on the time.
        channels: Guide only the first so many latent channels, as some published models do; null, the normal case, guides all.
        keep_controls: The branch without the semantic condition reads the controls too: for models that were never trained
            without them (PixArt's multi-scale models).
        guide_scale: w of autoguidance (sampling/autoguidance.py), for which a second model is given when pictures are sampled;
            1 is none.
        rescale: Share of rescaled guidance (sampling/rescale.py); 0 is none.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("guide_scale", "rescale")

    semantic_scale: float = Field(default=1.0, ge=0, le=MOST_SCALE)
    control_scale: float = Field(default=1.0, ge=0, le=MOST_SCALE)
    interval: tuple[float, float] | None = None
    schedule: GuidanceScheduleConfig = ConstantGuidance()
    channels: int | None = Field(default=None, ge=1)
    keep_controls: bool = False
    guide_scale: float = Field(default=1.0, ge=0, le=MOST_SCALE)
    rescale: float = Field(default=0.0, ge=0, le=1)

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), self.later_settings)

    @model_validator(mode="after")
    def _means_something(self) -> GuidanceConfig:
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"interval {list(self.interval)} must be [low, high] with 0 <= low < high <= 1")
        if self.keep_controls and self.control_scale != 1:
            raise ValueError("control_scale has no effect while keep_controls leaves no branch without controls; needed: 1")
        if self.semantic_scale == self.control_scale == self.guide_scale == 1:
            idle = [name for name in ("interval", "channels") if getattr(self, name) is not None]
            idle += [] if isinstance(self.schedule, ConstantGuidance) else ["schedule"]
            idle += ["rescale"] if self.rescale else []
            if idle:
                raise ValueError(f"{idle[0]} has no effect while semantic_scale, control_scale and guide_scale are 1")
        return self


@dataclass(frozen=True)
class Branch:
    """One evaluation of the denoiser: which of the two kinds of condition it reads, and whether the guide evaluates it."""

    semantic: bool
    control: bool
    guide: bool = False


CONDITIONAL = Branch(semantic=True, control=True)
SEMANTIC_ONLY = Branch(semantic=True, control=False)
UNCONDITIONAL = Branch(semantic=False, control=False)
GUIDE = Branch(semantic=True, control=True, guide=True)

DenoiseBranches = Callable[[Tensor, float, tuple[Branch, ...]], Denoised]
"""(x_t repeated once per branch [K B, C, H, W], t, the K branches) -> Denoised [K B, ...]; rows k B to (k + 1) B - 1
are evaluated under branches[k]."""


def branch_weights(semantic_scale: float, control_scale: float, guide_scale: float = 1.0) -> dict[Branch, float]:
    """Weights of the branches in the guided estimate.

    Args:
        semantic_scale: w_s.
        control_scale: w_c.
        guide_scale: w of autoguidance, whose (w - 1) (x_0(model) - x_0(guide)) is added.

    Returns:
        Those that are not 0, the most conditional branch first, the guide last; they sum to 1.
    """
    weights = {
        CONDITIONAL: semantic_scale * control_scale + (guide_scale - 1),
        SEMANTIC_ONLY: semantic_scale * (1 - control_scale),
        UNCONDITIONAL: 1 - semantic_scale,
        GUIDE: 1 - guide_scale,
    }
    return {branch: value for branch, value in weights.items() if value != 0}


def branches(semantic_scale: float, control_scale: float, guide_scale: float = 1.0) -> tuple[Branch, ...]:
    """The branches that these scales need, most conditional first: one for (1, 1), two for (w, 1) and (1, w), else three.

    A guide is one more.
    """
    return tuple(branch_weights(semantic_scale, control_scale, guide_scale))


def scales(config: GuidanceConfig, t: float, schedule: Schedule) -> tuple[float, float, float]:
    """The (semantic, control, guide) scales at time `t`; 1 outside the interval."""
    given = config.semantic_scale, config.control_scale, config.guide_scale
    if config.interval is not None and not config.interval[0] <= t <= config.interval[1]:
        return 1.0, 1.0, 1.0
    match config.schedule:
        case ConstantGuidance():
            return given
        case PowerCosineGuidance(power=power):
            network_time = float(schedule.network_time(torch.tensor(t, dtype=torch.float64))) / NETWORK_STEPS
            share = (1 - math.cos(math.pi * (1 - network_time) ** power)) / 2
            semantic, control, guide = (1 + (scale - 1) * share for scale in given)
            return semantic, control, guide


def combine(
    denoised: Denoised,
    semantic_scale: float,
    control_scale: float,
    channels: int | None = None,
    guide_scale: float = 1.0,
    rescale: float = 0.0,
) -> Denoised:
    """Combine the estimates of the branches to the guided one.

    Acting on x_0 equals acting on eps, v or velocity: at a given x_t all are affine in x_0 and the weights sum to 1.

    Args:
        denoised: Estimates [K B, C, H, W] in the order of `branches`.
        semantic_scale: w_s.
        control_scale: w_c.
        channels: How many channels are guided; None guides all.
        guide_scale: w of autoguidance.
        rescale: As of `GuidanceConfig`; the deviations are those of all channels.

    Returns:
        The estimate [B, C, H, W]. Channels that are not guided and the learned variance are those of the most conditional
        branch that has a weight: of the only one where there is one, such as the unconditional one for semantic_scale 0.

    Raises:
        ConfigError: `channels` leaves none out.
    """
    weights = branch_weights(semantic_scale, control_scale, guide_scale)
    estimates = denoised.x_0.chunk(len(weights))
    if channels is not None and channels >= estimates[0].shape[1]:
        raise ConfigError(
            f"guidance.channels={channels} leaves out none of the {estimates[0].shape[1]} channels",
            needed="fewer",
            fix="remove guidance.channels",
        )
    if len(weights) == 1:
        return denoised
    x_0 = torch.stack([value * part for value, part in zip(weights.values(), estimates, strict=True)]).sum(0)
    if rescale:
        x_0 = rescaled(x_0, estimates[0], rescale)
    if channels is not None:
        x_0 = torch.cat([x_0[:, :channels], estimates[0][:, channels:]], 1)
    fraction = denoised.variance_fraction
    return Denoised(x_0, None if fraction is None else fraction.chunk(len(weights))[0])


def guided(denoise_branches: DenoiseBranches, config: GuidanceConfig, schedule: Schedule) -> Denoise:
    """Wrap a denoiser with guidance; only the branches that a time needs are evaluated, as one batch."""

    def denoise(x_t: Tensor, t: float) -> Denoised:
        """Estimate x_0 with guidance."""
        semantic, control, guide = scales(config, t, schedule)
        needed = branches(semantic, control, guide)
        repeated = x_t.repeat(len(needed), *(1,) * (x_t.ndim - 1))
        estimates = denoise_branches(repeated, t, needed)
        return combine(estimates, semantic, control, config.channels, guide, config.rescale)

    return denoise
