"""Sliced Wasserstein distance of features: needs no covariance, so it is there for fewer pictures than features."""

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
_BLOCK = 64
"""Directions that are compared at once."""
_FOR_INTERVAL = 64
"""Directions along which the bootstrap's replicates are compared."""
_BIASED = 0.2
"""Share of the value above which its bias is reported."""


class SlicedWassersteinConfig(Config):
    """D times the mean over `directions` u of W_2(u.x, u.y)^2, where W_2 is exact between the sorted projections of samples x
    and data y (Bonneel et al. 2015; as a measure of generators Berthet et al. 2026, arXiv 2605.06797).

    The directions are random but orthogonal, D of them at a time. With the factor D, the feature dimension, a plain shift of
    the data counts |shift|^2, as it does in the Fréchet distance; papers choose other constants. The value decreases with the
    number of pictures, less steeply than a Fréchet distance; a bias above a fifth of the value, by the bootstrap, is reported.
    """

    kind: Literal["sliced_wasserstein"] = "sliced_wasserstein"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "sliced_wasserstein": MetricWords(
            "sliced W2", "squared Wasserstein distance of features along random directions between samples and data"
        ),
    }
    directions: int = Field(default=1024, ge=1)
    seed: int = Field(default=0, ge=0)

    @property
    def protocol(self) -> str:
        """With its settings."""
        return f"sliced_wasserstein(directions={self.directions}, seed={self.seed})"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The distance; its interval is over the samples, the reference being part of the protocol."""
        same_view(samples, reference)
        at_least(_LEAST, self.kind, samples, reference)
        x, y = samples.rows.vectors, reference.rows.vectors
        along = directions(x.shape[1], self.directions, self.seed)
        dim, distances = x.shape[1], []
        for block in torch.split(along, _BLOCK, dim=1):
            distances.append(squared_distances(project(x, block), project(y, block)))
        value = dim * float(torch.cat(distances).mean())
        few = along[:, : min(_FOR_INTERVAL, self.directions)]
        counts = weights(bootstrap, len(x), self.kind)
        replicates = dim * weighted_distances(x.double() @ few, project(y, few), counts).mean(dim=1)
        bias = float(replicates.mean()) - dim * float(torch.cat(distances)[: few.shape[1]].mean())
        warnings = (_biased(value, bias, len(x)),) if bias > _BIASED * value > 0 else ()
        return [estimate(self.kind, value, replicates, bootstrap, len(x), warnings, least=0)]


def directions(dim: int, count: int, seed: int) -> Tensor:
    """Draw `count` unit vectors [dim, count], float64, uniform on the sphere; each `dim` of them are orthogonal."""
    blocks = []
    for number, start in enumerate(range(0, count, dim)):
        normal = torch.randn(
            dim, min(dim, count - start), dtype=torch.float64, generator=seeds.generator(seed, "slice", number)
        )
        basis, upper = torch.linalg.qr(normal)
        blocks.append(basis * upper.diagonal().sign())  # without the signs the basis would not be uniform
    return torch.cat(blocks, dim=1)


def project(vectors: Tensor, along: Tensor) -> Tensor:
    """Sorted projections [L, n] of vectors [n, D] on directions [D, L]."""
    projected: Tensor = (vectors.double() @ along).T.sort(dim=1).values
    return projected


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """W_2^2 [L] between the empirical distributions of sorted x [L, n] and y [L, m], exact for any n and m.

    Both quantile functions are steps; their squared difference is integrated over the intervals between all steps of both:
    sum over k of (q_k - q_k-1) (x_i(k) - y_j(k))^2.
    """
    return _integrated(x, y, *_steps(x.shape[1], y.shape[1]))


def weighted_distances(x: Tensor, y: Tensor, counts: Tensor) -> Tensor:
    """W_2^2 [R, L] of projections x [n, L] against sorted y [L, m], where replicate r holds picture i counts[r, i] times.

    The counts of each replicate sum to n.
    """
    count, lines = x.shape
    values, order = x.T.sort(dim=1)
    steps = _steps(count, y.shape[1])
    rows = []
    for each in counts.long():
        occurring = each[order].flatten()  # in the order along each line
        drawn = torch.repeat_interleave(values.flatten(), occurring).view(lines, count)
        rows.append(_integrated(drawn, y, *steps))
    return torch.stack(rows)


def _steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Between the steps i/n and j/m: index into n values, index into m values, and width of each of the intervals."""
    ends = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))  # in units of 1 / (n m): exact
    starts = torch.cat([torch.zeros(1, dtype=ends.dtype), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)


def _integrated(x: Tensor, y: Tensor, i: Tensor, j: Tensor, width: Tensor) -> Tensor:
    found: Tensor = (x[:, i] - y[:, j]).square() @ width
    return found


def _biased(value: float, bias: float, count: int) -> str:
    much = (
        f"is about {bias:.2g} of {value:.3g} too high"
        if bias < value
        else f"is {value:.2g}, no more than its bias of {bias:.2g}"
    )
    return f"sliced_wasserstein of {count:,} pictures {much}: compare equal numbers of pictures, or measure more"
