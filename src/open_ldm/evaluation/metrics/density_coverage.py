"""Density and coverage: precision and recall that outliers do not inflate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_mean, estimate_share
from open_ldm.evaluation.metrics.base import MetricWords, at_least, same_view
from open_ldm.evaluation.metrics.manifold import inside, radii
from open_ldm.evaluation.statistics import Statistics


class DensityCoverageConfig(Config):
    """density: how many of the data's balls hold a sample, on average, over `neighbours` (may exceed 1); coverage: share of
    the data's balls that hold a sample at all. A ball reaches from a picture of the data to its `neighbours`-th nearest
    (Naeem et al. 2020, section 3)."""

    kind: Literal["density_coverage"] = "density_coverage"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "density": MetricWords("density", "how many neighbourhoods of the data hold a sample, on average", "higher"),
        "coverage": MetricWords("coverage", "share of the data's neighbourhoods that hold a sample", "higher"),
    }
    neighbours: int = Field(default=5, ge=1)

    @property
    def protocol(self) -> str:
        """With its settings."""
        return f"density_coverage(neighbours={self.neighbours})"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """Both numbers. The interval of density is over samples, that of coverage over the data."""
        same_view(samples, reference)
        at_least(self.neighbours + 1, "density_coverage", samples, reference)
        x, y = samples.rows.vectors, reference.rows.vectors
        held_by = torch.empty(len(x), dtype=torch.float64)
        covered = torch.zeros(len(y), dtype=torch.bool)
        for rows, held in inside(x, y, radii(y, self.neighbours)):
            held_by[rows] = held.sum(dim=1).double()
            covered |= held.any(dim=0)
        return [
            estimate_mean("density", held_by / self.neighbours, bootstrap),
            estimate_share("coverage", covered.double(), bootstrap),
        ]
