"""Kernel distance: unbiased at any number of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core import seeds
from open_ldm.core.config import Config
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate, weights
from open_ldm.evaluation.metrics.base import MetricWords, at_least, same_view
from open_ldm.evaluation.statistics import Statistics

_LEAST = 10


class KIDConfig(Config):
    """Squared maximum mean discrepancy with k(x, y) = (x . y / D + 1)^3, unbiased, averaged over `subsets` of `subset_size`
    pictures of each side (Bińkowski et al. 2018, section 4; eq. 4 of Gretton et al. 2012).

    With fewer pictures the subsets are as large as the smaller side; where both sides are as large as a subset there is only
    one. May be negative where the sets are alike.
    """

    kind: Literal["kid"] = "kid"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "kid": MetricWords("KID", "kernel distance of features between samples and data; unbiased for few pictures"),
    }
    subset_size: int = Field(default=1000, ge=_LEAST)
    subsets: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)

    @property
    def protocol(self) -> str:
        """With its settings."""
        return f"kid(subset_size={self.subset_size}, subsets={self.subsets}, seed={self.seed})"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The distance; its interval is over the samples, the reference being part of the protocol."""
        same_view(samples, reference)
        at_least(_LEAST, "kid", samples, reference)
        x, y = samples.rows.vectors, reference.rows.vectors
        size = min(self.subset_size, len(x), len(y))
        counts = torch.cat([torch.ones(1, len(x), dtype=torch.float64), weights(bootstrap, len(x), "kid")])
        subsets = 1 if size == len(x) == len(y) else self.subsets
        distances = []
        for subset in range(subsets):
            own, others = self._subset(len(x), size, "samples", subset), self._subset(len(y), size, "reference", subset)
            distances.append(weighted_kernel_distance(x[own].double(), y[others].double(), counts[:, own]))
        values = torch.stack(distances).nanmean(dim=0)
        return [estimate("kid", float(values[0]), values[1:], bootstrap, len(x))]

    def _subset(self, count: int, size: int, side: str, subset: int) -> Tensor:
        return torch.randperm(count, generator=seeds.generator(self.seed, f"kid {side}", subset))[:size]


def weighted_kernel_distance(x: Tensor, y: Tensor, counts: Tensor) -> Tensor:
    """Return the unbiased MMD^2 [R] of x [n, D] against y [m, D], where replicate r holds x_i counts[r, i] times.

    A picture that occurs twice is not compared with itself: pairs run over different pictures only, since duplicates would
    raise the distance. NaN for a replicate that holds fewer than two different pictures.
    """
    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    within_x.fill_diagonal_(0)
    within_y.fill_diagonal_(0)
    m = len(y)
    size = counts.sum(dim=1)
    pairs = size.square() - counts.square().sum(dim=1)
    own = ((counts @ within_x) * counts).sum(dim=1) / pairs
    return own + within_y.sum() / (m * (m - 1)) - 2 * (counts @ across.mean(dim=1)) / size


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return k(x, y) = (x . y / D + 1)^3, [n, m], of x [n, D] and y [m, D]."""
    values: Tensor = (x @ y.T / x.shape[1] + 1) ** 3
    return values
