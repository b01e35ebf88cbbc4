"""Tables of vectors for the offsets between tokens, resized so that an offset stands for the same distance in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.denoisers.blocks.positions import Grid, GridChange


def offsets_resized(values: Tensor, grid: Grid, to: Grid, how: GridChange) -> Tensor:
    """Resize a table of the offsets between tokens, so that an offset stands for the same distance in the picture.

    An offset of d tokens on a side of n, -(n - 1) <= d <= n - 1, is one of d base / n tokens on a side of `base`. There the old
    table is sampled along each axis: linearly, or for `bicubic` by Keys' cubic with a = -1/2 (Keys 1981). Both keep a slope
    and the vectors of offsets that both grids have. The outermost offsets of a larger grid lie less than one token beyond the
    old ones: there the table is continued along the line through its last two entries.

    Args:
        values: Vectors [(2 rows - 1) (2 columns - 1) + N, D]; the last N belong to no offset and stay as they are.
        grid: (rows, columns) of tokens that the table was made for.
        to: (rows, columns) of tokens that the result is for.
        how: `bicubic`, or linear otherwise.

    Returns:
        The vectors of the other grid; `values` itself where the grids are equal.
    """
    if grid == to:
        return values
    rows, columns = (2 * side - 1 for side in grid)
    table = values[: rows * columns].view(rows, columns, -1)
    for axis in (0, 1):
        table = _sampled(table, axis, grid[axis], to[axis], cubic=how == "bicubic")
    return torch.cat([table.flatten(0, 1), values[rows * columns :]])


def _sampled(table: Tensor, axis: int, base: int, size: int, *, cubic: bool) -> Tensor:
    """Sample a table of the offsets of `base` tokens along an axis at those of `size` tokens."""
    offsets = torch.arange(1 - size, size, dtype=torch.float64) * base / size  # whole ones are exact
    below = offsets.floor()
    first, last = (table.narrow(axis, start, 1) for start in (0, 2 * base - 2))
    inner = [table.narrow(axis, start, 1) for start in (min(1, 2 * base - 2), max(0, 2 * base - 3))]
    before, after = first - inner[0], last - inner[1]
    table = torch.cat([first + 2 * before, first + before, table, last + after, last + 2 * after], axis)
    sampled: list[Tensor] = []
    for step, weight in zip((-1, 0, 1, 2), _taps(offsets - below, cubic), strict=True):
        # Offset 0 is entry base - 1, behind the two entries put before all.
        index = (below + step + base + 1).long().to(table.device)
        shape = [-1 if each == axis else 1 for each in range(table.ndim)]
        sampled.append(table.index_select(axis, index) * weight.to(table).view(shape))
    return torch.stack(sampled).sum(0)


def _taps(part: Tensor, cubic: bool) -> tuple[Tensor, ...]:
    """Compute the weights of the two entries below and the two above, at `part` of the way between the inner two."""
    if not cubic:
        return torch.zeros_like(part), 1 - part, part, torch.zeros_like(part)
    up = 1 - part
    near = [(1.5 * x - 2.5) * x**2 + 1 for x in (part, up)]  # Keys 1981, a = -1/2
    far = [((-0.5 * x + 2.5) * x - 4) * x + 2 for x in (part + 1, up + 1)]
    return far[0], near[0], near[1], far[1]
