"""How different two pictures look: over an extractor's layers (LPIPS), or between feature vectors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.features.base import Features

DistanceName = Literal["layers", "vectors"]
_EPSILON = 1e-10


def distance(one: Features, other: Features, over: DistanceName) -> Tensor:
    """Return the distances [B], float64, between pictures at equal indices of two batches.

    layers: sum over layers of the mean over positions of |f - g|^2 (Zhang et al. 2018, eq. 1, where f and g are normalised and
    weighted already). vectors: Euclidean. Raises ConfigError for layers where the extractor gives none.
    """
    if over == "vectors":
        apart: Tensor = (one.vectors.double() - other.vectors.double()).norm(dim=1)
        return apart
    if not one.layers:
        raise ConfigError("this extractor gives no layers", needed="lpips, classifier or random", fix="over=vectors")
    total = torch.zeros(len(one.vectors), dtype=torch.float64, device=one.vectors.device)
    for f, g in zip(one.layers, other.layers, strict=True):
        total += (f.double() - g.double()).square().sum(dim=1).mean(dim=(1, 2))
    return total


def unit_channels(maps: Tensor) -> Tensor:
    """Return maps [B, C, h, w] with the vector at every position scaled to length 1 (or 0 where it is 0)."""
    return maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def pooled(layers: tuple[Tensor, ...]) -> Tensor:
    """Average over positions, layers side by side: [B, sum of channels]."""
    return torch.cat([layer.mean(dim=(2, 3)) for layer in layers], dim=1)
