"""Neighbourhoods in feature space: a set's manifold is the union of balls around its pictures."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1024


def distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances of blocks of rows of x [n, D] to all rows of y [m, D]: (rows, float64 [rows, m])."""
    # Distances do not change with the origin; near zero the products lose less.
    centre = y.double().mean(dim=0)
    others = y.double() - centre
    squares = others.square().sum(dim=1)
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(x)))
        own = x[rows].double() - centre
        products = torch.addmm(squares + own.square().sum(dim=1, keepdim=True), own, others.T, alpha=-2)
        yield rows, products.clamp_(min=0).sqrt_()


def radii(x: Tensor, neighbours: int) -> Tensor:
    """Return the distance [n] of each row of x [n, D] to its `neighbours`-th nearest other row."""
    radius = torch.empty(len(x), dtype=torch.float64)
    for rows, block in distances(x, x):
        block[torch.arange(len(block)), torch.arange(rows.start, rows.stop)] = torch.inf  # not its own neighbour
        radius[rows] = block.kthvalue(neighbours, dim=1).values
    return radius


def inside(x: Tensor, centres: Tensor, radius: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of x [n, D]: which of the closed balls around `centres` [m, D] hold each, bool [rows, m]."""
    for rows, block in distances(x, centres):
        yield rows, block <= radius
