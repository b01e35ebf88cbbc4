"""Control effect of a column of metadata: what a reader fitted on real pictures reads off samples, against real pictures.

T(x), D numbers, is what the reader tells of a picture: the expected number (D = 1), or a probability of each category. With its
mean r_v over real pictures of the value v, and r the mean of all r_v, the effect of picture i, sampled under every value, is

    e_i = sum_v <r_v - r, T(x_i,v)> / sum_v |r_v - r|^2,

the slope of `control_effect` for D numbers in the place of one: 0 where samples do not follow the control, 1 where they change
as much as real pictures of those values do, as far as the reader sees it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.evaluation.metrics.control_effect import CERTAIN, near_values


@dataclass(frozen=True)
class RealReadings:
    """Means [D] of what the reader tells of real pictures of each value; only values with `LEAST_REAL` pictures or more.

    `left_out`: values with too few; `counts`: pictures of each of the others.
    """

    means: Mapping[str, Tensor]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]


def real_readings(readings: Tensor, nearest: Tensor, values: Sequence[str]) -> RealReadings:
    """Average readings [n, D] of real pictures over those of each value.

    Args:
        readings: What the reader tells.
        nearest: Index of the value of each picture, int64 [n]; -1 for none of them.
        values: The values.

    Raises:
        DataError: Fewer than two values have enough pictures, or the reader tells no two of them apart.
    """
    kept = near_values(readings, nearest, values, "have")
    means = {value: each.mean(dim=0) for value, each in kept.items()}
    squares = {value: float(each.var(dim=0).sum()) / len(each) for value, each in kept.items()}

    def apart(one: str, other: str) -> float:
        """Distance of the means under two values, in standard errors of it."""
        error = math.sqrt(squares[one] + squares[other])
        return float((means[one] - means[other]).norm()) / max(error, 1e-12)

    if max(apart(one, other) for one, other in itertools.combinations(kept, 2)) <= CERTAIN:
        raise DataError(
            "control_effect: the reader tells no two of these values apart in real pictures for certain",
            needed="a reader that does",
            fix="fit it for longer, values farther apart, or more real_pictures",
        )
    counts = {value: len(each) for value, each in kept.items()}
    return RealReadings(means, counts, tuple(value for value in values if value not in kept))


def read_effects(samples: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
    """Return e_i, float64 [n], of n pictures of which the reader tells samples[v] [n, D] under each value v."""
    centre = torch.stack(list(real.values())).mean(dim=0)
    spread = sum(float((mean - centre).square().sum()) for mean in real.values())
    level = samples[next(iter(real))].double()  # cancels, since the weights sum to 0; without it rounding would be left
    weighed = [(samples[value].double() - level) @ ((mean - centre) / spread) for value, mean in real.items()]
    return torch.stack(weighed).sum(dim=0)
