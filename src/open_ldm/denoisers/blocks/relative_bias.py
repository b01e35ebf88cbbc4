"""Relative position bias: a learned number per head for every offset between two tokens, added to attention's logits.

The tables are BEiT's (Bao et al. 2022) as MDTv2 has them: one row per offset on the grid, and three more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.blocks.grid_table import GridTable
from open_ldm.denoisers.blocks.positions import Grid

SPARE_ROWS = 3
"""Rows behind the offsets, as query and key: image and context token, context and image, context and context."""


@dataclass(frozen=True)
class TokenPairs:
    """The table row of each pair of tokens.

    Attributes:
        grid: The grid whose bias table is meant.
        rows: [1 or B, N, N], query first.
    """

    grid: Grid
    rows: Tensor

    def select(self, tokens: Tensor) -> TokenPairs:
        """Return the pairs of the tokens of these indices [B, K] only."""
        return TokenPairs(self.grid, self.rows[0][tokens.unsqueeze(2), tokens.unsqueeze(1)])


def token_pairs(grid: Grid, context: int, device: torch.device) -> TokenPairs:
    """Find the table row of every pair of tokens.

    The row of an offset (down, right), query - key, is (down + rows - 1) (2 columns - 1) + (right + columns - 1).

    Args:
        grid: Rows and columns of image tokens, which come first, row by row.
        context: Number L of context tokens behind them, which have no position.
        device: Device of the result.

    Returns:
        Pairs whose `rows` are [1, T + L, T + L].
    """
    rows, columns = grid
    index = torch.arange(rows * columns, device=device)
    row, column = index // columns, index % columns
    down = row.unsqueeze(1) - row + rows - 1
    right = column.unsqueeze(1) - column + columns - 1
    offsets = down * (2 * columns - 1) + right  # [T, T]
    beyond = (2 * rows - 1) * (2 * columns - 1)
    pairs = F.pad(F.pad(offsets, (0, context), value=beyond), (0, 0, 0, context), value=beyond + 1)  # [T + L, T + L]
    pairs[len(index) :, len(index) :] = beyond + 2
    return TokenPairs(grid, pairs.unsqueeze(0))


class RelativeBias(nn.Module):
    """The table of one attention, [(2 rows - 1)(2 columns - 1) + 3, heads], for a grid of tokens."""

    def __init__(self, grid: Grid, heads: int) -> None:
        super().__init__()
        offsets = _offsets(grid)
        values = torch.empty(offsets[0] * offsets[1] + SPARE_ROWS, heads)
        self.table = GridTable(nn.init.trunc_normal_(values, std=0.02), offsets, centred=True)

    def forward(self, pairs: TokenPairs) -> Tensor:
        """Look up the bias of every pair: [1 or B, heads, N, N], float32."""
        table = self.table(_offsets(pairs.grid)).t()  # [heads, offsets + 3]
        # index_select: the backward of table[...] adds in an order that two threads do not repeat.
        numbers: Tensor = table.index_select(1, pairs.rows.flatten())
        return numbers.view(-1, *pairs.rows.shape).transpose(0, 1)


def _offsets(grid: Grid) -> Grid:
    """Return the grid of offsets between two tokens."""
    return 2 * grid[0] - 1, 2 * grid[1] - 1
