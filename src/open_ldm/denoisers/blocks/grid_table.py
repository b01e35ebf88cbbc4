"""Learned vectors at the places of a grid, for networks whose tables have a size, and how they reach another grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.positions import Grid


def resized(values: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Vectors [rows x columns + N, D] of a grid, row by row, brought to another grid by bicubic interpolation of each channel.

    The last N vectors, which lie nowhere, stay as they are. Both grids cover one area, places in the middle of cells.
    """
    if grid == to:
        return values
    places = grid[0] * grid[1]
    planes = values[:places].t().reshape(1, -1, *grid)  # [1, D, rows, columns]
    there = F.interpolate(planes, to, mode="bicubic", antialias=True)  # without antialias torch's kernel bends a slope
    return torch.cat([there.flatten(2)[0].t(), values[places:]])


class GridTable(nn.Module):
    """Learned vectors `values` [rows x columns + N, D]; for another grid than their own they are resized, and kept for the
    last one while no gradient is asked for."""

    def __init__(self, values: Tensor, grid: Grid) -> None:
        super().__init__()
        self.values, self.grid = nn.Parameter(values), grid
        self._kept: tuple[object, Tensor] | None = None

    def forward(self, grid: Grid) -> Tensor:
        """(rows, columns) -> [rows x columns + N, D]."""
        if grid == self.grid or torch.is_grad_enabled():
            return resized(self.values, self.grid, grid)
        wanted = (grid, self.values.data_ptr(), self.values._version)  # an averaged model changes in place between uses
        if self._kept is None or self._kept[0] != wanted:
            self._kept = (wanted, resized(self.values, self.grid, grid))
        return self._kept[1]
