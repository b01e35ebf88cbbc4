"""Fréchet distance between two sets of features (FID with Inception, FD with any other extractor)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate, weights
from open_ldm.evaluation.metrics.base import MetricWords, same_view
from open_ldm.evaluation.statistics import Statistics

ENOUGH_PER_DIM = 10
_BLOCK = 4096
_NOISE = 10.0
"""Eigenvalues below so many D eps of the largest are rounding: that of eigh and of the sums that made the covariance."""


@dataclass(frozen=True)
class Gaussian:
    """`mean` [D] and `covariance` [D, D], float64."""

    mean: Tensor
    covariance: Tensor


class FIDConfig(Config):
    """|m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of the features' means and unbiased covariances.

    Heusel et al. 2017, eq. 6, after Fréchet 1957 and Dowson & Landau 1982. The value decreases with the number of pictures, so
    only values of equal number are comparable. With no more pictures than dimensions a covariance is singular and the
    number says little: that is refused. Below 10 pictures a dimension the value comes with a warning. The bootstrap's interval
    is right where the sets differ, and up to about two and a half times too wide, never too narrow, where they are alike.
    """

    kind: Literal["fid"] = "fid"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "fid": MetricWords("FD", "Fréchet distance of features between samples and data"),
    }

    @property
    def protocol(self) -> str:
        """No settings."""
        return "fid"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The distance; its interval is over the samples, the reference being part of the protocol."""
        same_view(samples, reference)
        warnings = [_enough("samples", samples), _enough("reference", reference)]
        wanted = Root(Gaussian(reference.moments.mean, reference.moments.covariance))
        value = wanted.distance(Gaussian(samples.moments.mean, samples.moments.covariance))
        vectors, count = samples.rows.vectors, len(samples.rows)
        replicates = [
            wanted.rough_distance(weighted_gaussian(vectors, row, samples.moments.mean))
            for row in weights(bootstrap, count, "fid")
        ]
        # Where the bank holds only some of the samples, the others narrow the interval as their number does.
        shrink = (count / samples.moments.count) ** 0.5
        words = tuple(text for text in warnings if text)
        return [estimate("fid", value, torch.tensor(replicates), bootstrap, samples.moments.count, words, shrink, least=0)]


class Root:
    """A Gaussian with a square root A of its covariance, S = A A^T, to be compared with many others."""

    def __init__(self, gaussian: Gaussian) -> None:
        self.gaussian = gaussian
        self.root = covariance_root(gaussian.covariance)

    def distance(self, other: Gaussian) -> float:
        """Squared Fréchet distance, to about D eps of the two traces.

        tr (S_1 S_2)^(1/2) is the sum of the singular values of A_1^T A_2, since their squares are the eigenvalues of
        A_1^T S_2 A_1, which are those of S_1 S_2. The squares are never formed: of an eigenvalue that is 0 but for its
        rounding eps, the root would be 1e-8.
        """
        return self._distance(other, torch.linalg.svdvals(self.root.T @ covariance_root(other.covariance)).sum())

    def rough_distance(self, other: Gaussian) -> float:
        """The same to about sqrt(eps) = 1e-8 of the traces, in a sixth of the time at 2,048 dimensions: for an interval."""
        squares = torch.linalg.eigvalsh(self.root.T @ other.covariance @ self.root)
        return self._distance(other, squares.clamp(min=0).sqrt().sum())

    def _distance(self, other: Gaussian, cross: Tensor) -> float:
        """`cross`: tr (S_1 S_2)^(1/2)."""
        shift = (self.gaussian.mean - other.mean).square().sum()
        spread = self.gaussian.covariance.trace() + other.covariance.trace()
        return max(0.0, float(shift + spread - 2 * cross))


def covariance_root(covariance: Tensor) -> Tensor:
    """A [D, D] with A A^T = `covariance` [D, D], float64. Eigenvalues that are rounding alone count as 0."""
    values, axes = torch.linalg.eigh(covariance)
    floor = _NOISE * len(values) * torch.finfo(values.dtype).eps * values[-1]
    root: Tensor = axes * torch.where(values > floor, values, 0.0).clamp(min=0).sqrt()
    return root


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Squared Fréchet distance of two Gaussians."""
    return Root(one).distance(other)


def weighted_gaussian(vectors: Tensor, counts: Tensor, centre: Tensor) -> Gaussian:
    """Mean and unbiased covariance of vectors [n, D] where vector i counts `counts[i]` times. `centre`: near the mean."""
    total = float(counts.sum())
    first = torch.zeros_like(centre)
    second = torch.zeros(len(centre), len(centre), dtype=torch.float64)
    occurring = counts.nonzero().squeeze(1)
    for block in torch.split(occurring, _BLOCK):
        rows = vectors[block].double() - centre
        heavy = rows * counts[block].unsqueeze(1)
        first += heavy.sum(dim=0)
        second.addmm_(heavy.T, rows)
    shift = first / total
    return Gaussian(centre + shift, (second - total * torch.outer(shift, shift)) / (total - 1))


def _enough(what: str, found: Statistics) -> str:
    """A warning, or nothing. Raises DataError when the covariance is singular."""
    count, dim = found.moments.count, found.dim
    if count <= dim:
        raise DataError(
            f"fid: {count:,} pictures in the {what} are no more than the {dim:,} dimensions of {found.extractor.name}",
            needed=f"more than {dim:,}, better {ENOUGH_PER_DIM * dim:,}",
            fix="use kid, which has no such bias, more pictures, or an extractor of fewer dimensions",
        )
    if count < ENOUGH_PER_DIM * dim:
        return (
            f"fid rests on {count:,} pictures in the {what}, fewer than {ENOUGH_PER_DIM} for each of {dim:,} dimensions: "
            "it is biased upwards; kid is not"
        )
    return ""
