"""How far a measured value could have fallen elsewhere with other pictures: the bootstrap (Efron, 1979)."""

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
    """A number called `name` with its interval. `count`: pictures it rests on. `warnings`: what to know before quoting it."""

    name: str
    value: float
    low: float
    high: float
    count: int
    warnings: tuple[str, ...] = ()


class Interval(Protocol):
    """A value between the ends of its interval."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def difference_of(one: Interval, other: Interval) -> tuple[float, float, float]:
    """one - other, and the ends of its interval, for independent pictures (Newcombe 1998, method 10).

    Each end lies as far off as the sides that face it say together; those of an even interval are value +- a sum of squares.
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return value, value - below, value + above


def weights(config: BootstrapConfig, count: int, purpose: str) -> Tensor:
    """How often each of `count` pictures is drawn in each replicate, float64 [replicates, count]; rows sum to `count`."""
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
    """value +- z * standard deviation of the replicates * `shrink`, and not below `least`, where the metric has an end.

    Not their percentiles: a replicate holds each picture several times, which moves values like FID upwards, and the
    interval would move with them. It says where the value falls with other pictures in equal number.
    """
    reach = NormalDist().inv_cdf(0.5 + config.level / 2) * float(replicates.std()) * shrink
    return Estimate(name, value, max(least, value - reach), value + reach, count, warnings)


def estimate_mean(name: str, values: Tensor, config: BootstrapConfig, scale: float = 1.0) -> Estimate:
    """Interval of scale * mean(values [n])."""
    values = values.double() * scale
    replicates = weights(config, len(values), name) @ values / len(values)
    return estimate(name, float(values.mean()), replicates, config, len(values))


def estimate_share(name: str, hits: Tensor, config: BootstrapConfig) -> Estimate:
    """Interval of the share of hits [n], each 0 or 1: Wilson's score interval (Wilson, 1927), which needs no replicates.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): within 0..1, and no hit among few is not certainty.
    """
    count, z = len(hits), NormalDist().inv_cdf(0.5 + config.level / 2)
    share = float(hits.double().mean())
    centre, more = share + z**2 / (2 * count), 1 + z**2 / count
    reach = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = (centre - reach) / more, (centre + reach) / more
    return Estimate(name, share, min(share, max(0.0, low)), max(share, min(1.0, high)), count)
