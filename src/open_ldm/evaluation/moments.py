"""Mean and covariance of feature vectors, one batch after the other, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.exchange import sum_on_cpu


@dataclass
class Moments:
    """`count` vectors so far; `mean` [D]; `scatter` [D, D] = sum (x - mean)(x - mean)^T; float64 on the CPU.

    Batches and other processes' moments are joined by the pairwise update of Chan, Golub and LeVeque (1983), which stays
    exact to rounding where a sum of squares would lose everything (large means, small deviations).
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """Of no vector yet."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    def add(self, vectors: Tensor) -> None:
        """Take in vectors [B, D]."""
        values = vectors.double()
        mean = values.mean(dim=0)
        centred = values - mean
        # The shift between the two means enters the scatter as one more row.
        self._join(len(values), mean, centred)

    def merge(self, other: Moments) -> None:
        """Take in what another process counted."""
        if other.count:
            self.scatter += other.scatter
            self._join(other.count, other.mean, other.mean.new_zeros(0, len(other.mean)))

    def _join(self, count: int, mean: Tensor, centred: Tensor) -> None:
        total = self.count + count
        shift = (mean - self.mean) * (self.count * count / total) ** 0.5
        rows = torch.cat([centred, shift.unsqueeze(0)])
        self.scatter.addmm_(rows.T, rows)
        self.mean += (mean - self.mean) * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance [D, D], as every published FID uses it."""
        return self.scatter / (self.count - 1)


def of_all(own: Moments, world: World) -> Moments:
    """Return the moments of all processes' vectors together, of the same bits in each; `own` is used up.

    M = sum_i n_i m_i / n and S = sum_i S_i + n_i (m_i - M)(m_i - M)^T, by two sums over the processes in float64: each needs
    memory for one scatter and its message, however many processes there are.
    """
    if world.size == 1:
        return own
    sums = torch.cat([own.mean * own.count, own.mean.new_tensor([own.count])])
    sum_on_cpu(world, sums, "means of pictures")
    count = round(float(sums[-1]))
    mean = sums[:-1] / max(count, 1)
    shift = (own.mean - mean) * own.count**0.5
    own.scatter.addr_(shift, shift)
    sum_on_cpu(world, own.scatter, "covariances of pictures")
    return Moments(count, mean, own.scatter)
