"""What published transformers share: position tables (computed where the formula gives them, else kept) and patch kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.denoisers.base import GeometryConfig, TransformerConfig
from open_ldm.denoisers.blocks.positions import Grid, Positions, PositionsConfig, StoredPositions
from open_ldm.interop.keymap import Computed, Move, Reshaped

TABLE = "denoiser.positions.table"


def find_positions(table: Tensor, formula: PositionsConfig, grid: Grid) -> PositionsConfig:
    """Find the positions that a published table holds.

    Args:
        table: [1, T, D], tokens row by row.
        formula: What may have computed it.
        grid: Rows and columns, T in all.

    Returns:
        The formula, if it gives these very numbers; else positions that are stored as numbers.
    """
    computed = Positions(formula, table.shape[-1])(grid, torch.device("cpu"))
    if table.shape[1] == len(computed) and torch.equal(table[0].float(), computed):
        return formula
    return StoredPositions(rows=grid[0], columns=grid[1])


def table_move(name: str, config: TransformerConfig, grid: Grid) -> Move:
    """Build the move of a table [1, T, D] named `name`: it is checked where `config.positions` computes it, else moved."""
    width = config.geometry.width
    if isinstance(config.positions, StoredPositions):
        return Reshaped(name, TABLE, (1, grid[0] * grid[1], width), (*grid, width))
    return Computed(name, Positions(config.positions, width)(grid, torch.device("cpu")).unsqueeze(0))


def patch_move(name: str, config: GeometryConfig, channels: int) -> Move:
    """Build the move of a patch convolution's kernel [D, C, p, p] named `name`; ours is a matrix [D, C p p]."""
    width, patch = config.geometry.width, config.patch
    shape = (width, channels, patch, patch)
    return Reshaped(name, "denoiser.patch_embedding.proj.weight", shape, (width, channels * patch * patch))
