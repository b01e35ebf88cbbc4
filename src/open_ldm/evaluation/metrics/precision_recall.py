"""Precision and recall: how many samples look like the data, and how much of the data the samples reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_share
from open_ldm.evaluation.metrics.base import MetricWords, at_least, same_view
from open_ldm.evaluation.metrics.manifold import inside, radii
from open_ldm.evaluation.statistics import Statistics


class PrecisionRecallConfig(Config):
    """precision: share of samples inside the manifold of the data; recall: share of the data inside the manifold of the
    samples; a manifold is the union of balls that reach to each picture's `neighbours`-th nearest (Kynkäänniemi et al. 2019,
    eq. 1 and 2). Both depend on the numbers of pictures, most of all recall.
    """

    kind: Literal["precision_recall"] = "precision_recall"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "precision": MetricWords("precision", "share of samples that lie among the data", "higher"),
        "recall": MetricWords("recall", "share of the data that lies among the samples", "higher"),
    }
    neighbours: int = Field(default=3, ge=1)

    @property
    def protocol(self) -> str:
        """With its settings."""
        return f"precision_recall(neighbours={self.neighbours})"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """Both shares. The interval of each is over the pictures whose share it is, with the other side's manifold fixed."""
        same_view(samples, reference)
        at_least(self.neighbours + 1, "precision_recall", samples, reference)
        x, y = samples.rows.vectors, reference.rows.vectors
        return [
            estimate_share("precision", reached(x, y, radii(y, self.neighbours)), bootstrap),
            estimate_share("recall", reached(y, x, radii(x, self.neighbours)), bootstrap),
        ]


def reached(x: Tensor, centres: Tensor, radius: Tensor) -> Tensor:
    """Return 1 for each row of x [n, D] that lies in a ball around any of `centres` [m, D], else 0; float64 [n]."""
    hits = torch.empty(len(x), dtype=torch.float64)
    for rows, held in inside(x, centres, radius):
        hits[rows] = held.any(dim=1).double()
    return hits
