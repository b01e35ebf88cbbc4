"""What published transformers share: position tables (computed where the formula gives them, else kept) and patch kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from open_ldm.denoisers.base import GeometryConfig, TransformerConfig
from open_ldm.denoisers.blocks.positions import Grid, Positions, PositionsConfig, StoredPositions
from open_ldm.interop.keymap import Computed, Move, Reshaped

TABLE = "denoiser.positions.table"


def positions_of(table: Tensor, formula: PositionsConfig, grid: Grid) -> PositionsConfig:
    """The positions for a published table [1, T, D]: the formula if it gives these very numbers, else the table itself."""
    computed = Positions(formula, table.shape[-1])(grid, torch.device("cpu"))
    if table.shape[1] == len(computed) and torch.equal(table[0].float(), computed):
        return formula
    return StoredPositions(rows=grid[0], columns=grid[1])


def table_move(name: str, config: TransformerConfig, grid: Grid) -> Move:
    """The move of a table [1, T, D] named `name` under `config.positions`."""
    width = config.geometry.width
    if isinstance(config.positions, StoredPositions):
        return Reshaped(name, TABLE, (1, grid[0] * grid[1], width), (*grid, width))
    return Computed(name, Positions(config.positions, width)(grid, torch.device("cpu")).unsqueeze(0))


def patch_move(name: str, config: GeometryConfig, channels: int) -> Move:
    """The move of a patch convolution's kernel [D, C, p, p] named `name`: ours is a matrix."""
    width, patch = config.geometry.width, config.patch
    shape = (width, channels, patch, patch)
    return Reshaped(name, "denoiser.patch_embedding.proj.weight", shape, (width, channels * patch * patch))
