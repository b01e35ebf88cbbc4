"""Learned vectors at the positions of a grid, for networks whose tables have a size, and how they are resized."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from open_ldm.denoisers.blocks.offset_table import offsets_resized
from open_ldm.denoisers.blocks.positions import Grid, GridChange, resized


class GridTable(nn.Module):
    """Learned vectors, resized for a grid other than their own; while no gradient is recorded, those of the last grid are kept.

    The last N vectors have no position and are never resized.
    """

    def __init__(self, values: Tensor, grid: Grid, *, centred: bool = False) -> None:
        """Hold the vectors.

        Args:
            values: Initial values [rows x columns + N, D].
            grid: (rows, columns).
            centred: The grid is that of the offsets between tokens, 2 n - 1 along a side of n, with its origin in the middle.
                It is resized by `offsets_resized`, so that an offset stands for the same distance in the picture.
        """
        super().__init__()
        self.values, self.grid, self.centred = nn.Parameter(values), grid, centred
        self._kept: tuple[object, Tensor] | None = None

    def forward(self, grid: Grid) -> Tensor:
        """Return the vectors for (rows, columns): [rows x columns + N, D]."""
        if grid == self.grid or torch.is_grad_enabled():
            return self._resized(self.values, self.grid, grid)
        key = (grid, self.values.data_ptr(), self.values._version)  # an averaged model changes in place between uses
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._resized(self.values, self.grid, grid))
        return self._kept[1]

    def resize(self, values: Tensor, source: GridTable, fresh: Tensor, how: GridChange) -> Tensor:
        """Resize the vectors of another table to this one's grid; see `SizedByGrid`.

        They are interpolated, or for `extrapolate` each stays at its position, with `fresh` ones where the other grid had none.
        """
        if how != "extrapolate" or source.grid == self.grid:
            return self._resized(values, source.grid, self.grid, how)
        others, own = source.grid[0] * source.grid[1], self.grid[0] * self.grid[1]
        there = values[:others].view(*source.grid, -1)
        here = fresh[:own].clone().view(*self.grid, -1)
        (from_rows, to_rows), (from_columns, to_columns) = (
            self._overlap(theirs, ours) for theirs, ours in zip(source.grid, self.grid, strict=True)
        )
        here[to_rows, to_columns] = there[from_rows, from_columns]
        return torch.cat([here.flatten(0, 1), values[others:]])

    def resize_method(self, how: GridChange) -> str:
        """See `SizedByGrid`."""
        if how == "extrapolate":
            return "positions kept, others new"
        if self.centred:
            return f"offsets of the same distance, {'bicubic' if how == 'bicubic' else 'bilinear'}"
        return "bicubic"

    def _resized(self, values: Tensor, grid: Grid, to: Grid, how: GridChange = "resample") -> Tensor:
        if not self.centred:
            return resized(values, grid, to)
        tokens, there = (((rows + 1) // 2, (columns + 1) // 2) for rows, columns in (grid, to))
        return offsets_resized(values, tokens, there, how)

    def _overlap(self, theirs: int, ours: int) -> tuple[slice, slice]:
        """Find the positions that both grids have along one axis, in theirs and in ours."""
        both = min(theirs, ours)
        starts = [(size - both) // 2 if self.centred else 0 for size in (theirs, ours)]
        return slice(starts[0], starts[0] + both), slice(starts[1], starts[1] + both)
