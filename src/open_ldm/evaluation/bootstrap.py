"""How far a measured value could vary with other pictures: the bootstrap (Efron, 1979)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core import seeds
from open_ldm.core.config import Config


class BootstrapConfig(Config):
    """`replicates` sets of pictures are drawn with replacement, as functions of `seed`; the interval covers `level`."""

    replicates: int = Field(default=100, ge=20)
    level: float = Field(default=0.95, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @property
    def words(self) -> str:
        """For protocols."""
        return f"{self.level:.0%} by {self.replicates} bootstrap replicates, seed {self.seed}; shares by Wilson's score"


@dataclass(frozen=True)
class Estimate:
    """A number called `name` with its interval. `count`: pictures measured. `warnings`: what to know before quoting it."""

    name: str
    value: float
    low: float
    high: float
    count: int
    warnings: tuple[str, ...] = ()


class Interval(Protocol):
    """A value between the ends of its interval."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """Lower end of its interval."""

    @property
    def high(self) -> float:
        """Upper end of its interval."""


def difference_of(one: Interval, other: Interval) -> tuple[float, float, float]:
    """Return one - other and the low and high end of its interval, for independent pictures (Newcombe 1998, method 10).

    The distance to each end is the root of the summed squares of the two half-widths that point towards it.
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return value, value - below, value + above


def weights(config: BootstrapConfig, count: int, purpose: str) -> Tensor:
    """Draw how often each of `count` pictures occurs in each replicate: float64 [replicates, count]; rows sum to `count`."""
    rows = []
    for replicate in range(config.replicates):
        drawn = torch.randint(count, (count,), generator=seeds.generator(config.seed, f"bootstrap {purpose}", replicate))
        rows.append(torch.bincount(drawn, minlength=count).double())
    return torch.stack(rows)


def estimate(
    name: str,
    value: float,
    replicates: Tensor,
    config: BootstrapConfig,
    count: int,
    warnings: tuple[str, ...] = (),
    shrink: float = 1.0,
    least: float = -math.inf,
) -> Estimate:
    """Return value +- z * standard deviation of the replicates * `shrink`, cut off at `least`.

    The interval says where the value lies with equally many other pictures. It does not use the percentiles of the
    replicates: a replicate holds some pictures several times, which raises values like FID and would raise the interval too.

    Args:
        name: Of the number.
        value: Measured on all pictures.
        replicates: The metric of each bootstrap replicate [R].
        config: Gives the level, hence z.
        count: Pictures that were measured.
        warnings: What to know before quoting the number.
        shrink: Factor on the half-width.
        least: The lowest value that the metric can take.
    """
    reach = NormalDist().inv_cdf(0.5 + config.level / 2) * float(replicates.std()) * shrink
    return Estimate(name, value, max(least, value - reach), value + reach, count, warnings)


def estimate_mean(name: str, values: Tensor, config: BootstrapConfig, scale: float = 1.0) -> Estimate:
    """Return scale * mean(values [n]) with its bootstrap interval."""
    values = values.double() * scale
    replicates = weights(config, len(values), name) @ values / len(values)
    return estimate(name, float(values.mean()), replicates, config, len(values))


def estimate_share(name: str, hits: Tensor, config: BootstrapConfig) -> Estimate:
    """Return the share of hits [n], each 0 or 1, with Wilson's score interval (Wilson, 1927), which needs no replicates.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) lies within 0..1 and has a width above 0 even when
    there is no hit at all.
    """
    count, z = len(hits), NormalDist().inv_cdf(0.5 + config.level / 2)
    share = float(hits.double().mean())
    centre, more = share + z**2 / (2 * count), 1 + z**2 / count
    reach = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = (centre - reach) / more, (centre + reach) / more
    return Estimate(name, share, min(share, max(0.0, low)), max(share, min(1.0, high)), count)
