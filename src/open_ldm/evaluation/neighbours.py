"""Does a model repeat its training pictures? The nearest training picture of every sample, and how near is near."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_share
from open_ldm.evaluation.metrics.base import same_view
from open_ldm.evaluation.metrics.manifold import distances, radii
from open_ldm.evaluation.statistics import Statistics


@dataclass(frozen=True)
class Neighbours:
    """Nearest training pictures of n samples, the nearest first.

    `samples` [n]: numbers of the samples, ascending; `training` [n, k]: numbers of the nearest training pictures; `distances`
    [n, k]; `typical` [m], ascending: the distance of every training picture to its nearest other one.
    """

    samples: Tensor
    training: Tensor
    distances: Tensor
    typical: Tensor

    @property
    def ranks(self) -> Tensor:
        """Share [n] of training pictures that lie nearer to another one than the sample to its nearest: new pictures of the
        same kind are spread evenly over 0..1, copies are at 0."""
        below = torch.searchsorted(self.typical, self.distances[:, 0].contiguous())
        return below.double() / len(self.typical)

    def copies(self, level: float = 0.01, bootstrap: BootstrapConfig | None = None) -> Estimate:
        """Share of samples of rank below `level`. About `level` for new pictures of the same kind, more where the model
        repeats."""
        return estimate_share("copies", (self.ranks < level).double(), bootstrap or BootstrapConfig())


def nearest_training(samples: Statistics, training: Statistics, count: int = 1) -> Neighbours:
    """Find the `count` nearest training pictures of every sample, by Euclidean distance of features.

    Raises:
        ConfigError: The sets were not seen by the same extractor at the same size.
        DataError: Not every training picture was kept singly, or there are too few of them.
    """
    same_view(samples, training)
    kept, seen = len(training.rows), training.pictures.count
    if kept < seen:
        raise DataError(f"only {kept:,} of {seen:,} training pictures were kept singly", fix=f"collect with capacity={seen}")
    if kept <= count or kept < 2:
        raise DataError(f"there are {kept} training pictures", needed=f"more than {max(1, count)}")
    order = torch.argsort(samples.rows.numbers, stable=True)
    vectors = samples.rows.vectors[order]
    near = torch.empty(len(vectors), count, dtype=torch.float64)
    which = torch.empty(len(vectors), count, dtype=torch.int64)
    for rows, block in distances(vectors, training.rows.vectors):
        near[rows], which[rows] = block.topk(count, dim=1, largest=False)
    typical = radii(training.rows.vectors, neighbours=1).sort().values
    return Neighbours(samples.rows.numbers[order], training.rows.numbers[which], near, typical)
