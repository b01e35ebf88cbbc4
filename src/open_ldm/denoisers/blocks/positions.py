"""Where a token lies: 2-D sinusoidal position tables, for any grid."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError

Grid = tuple[int, int]
"""Rows and columns of tokens."""


class GridPositions(Config):
    """Coordinates 0, 1, ... of the grid at hand (DiT). With `base` they are i * base / size: a larger grid keeps the range
    of a grid of `base` tokens a side (PixArt's and arXiv 2411.03177's resampled grid)."""

    kind: Literal["grid"] = "grid"
    base: float | None = Field(default=None, gt=0)


class CentredPositions(Config):
    """The middle of a square table of `side` tokens, coordinates i * base / side (Stable Diffusion 3: 192 and 64)."""

    kind: Literal["centred"] = "centred"
    side: int = Field(default=192, ge=1)
    base: float = Field(default=64.0, gt=0)


class StoredPositions(Config):
    """A table that came with imported weights, [rows, columns, D]; a smaller grid is cut from its middle."""

    kind: Literal["stored"] = "stored"
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)


PositionsConfig = Annotated[GridPositions | CentredPositions | StoredPositions, Field(discriminator="kind")]


class Positions(nn.Module):
    """A fixed 2-D position table, made for any grid and kept for the last one used. Not trained."""

    def __init__(self, config: GridPositions | CentredPositions | StoredPositions, width: int) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"denoiser.width={width} does not fit 2-D positions", needed="a multiple of 4")
        self.config, self.width = config, width
        if isinstance(config, StoredPositions):
            self.register_buffer("table", torch.zeros(config.rows, config.columns, width))
        self._kept: tuple[tuple[int, int, torch.device], Tensor] | None = None

    def forward(self, grid: Grid, device: torch.device) -> Tensor:
        """(rows, columns) -> [T, D], float32, row by row. Raises ConfigError for a grid larger than a fixed table."""
        if isinstance(self.config, StoredPositions):
            return self._cut(grid)
        wanted = (*grid, device)
        if self._kept is None or self._kept[0] != wanted:
            rows, columns = (coordinates(self.config, size) for size in grid)
            self._kept = (wanted, sinusoidal_table(rows, columns, self.width).float().to(device))
        return self._kept[1]

    def _cut(self, grid: Grid) -> Tensor:
        table = self.get_buffer("table")
        top, left = (_margin(whole, size) for whole, size in zip(table.shape[:2], grid, strict=True))
        return table[top : top + grid[0], left : left + grid[1]].flatten(0, 1)


def coordinates(config: GridPositions | CentredPositions, size: int) -> Tensor:
    """Coordinates [size], float64, of the tokens along one axis."""
    places = torch.arange(size, dtype=torch.float64)
    if isinstance(config, CentredPositions):
        return (places + _margin(config.side, size)) * (config.base / config.side)
    return places if config.base is None else places * (config.base / size)


def _margin(whole: int, size: int) -> int:
    if size > whole:
        raise ConfigError(
            f"{size} tokens a side do not fit a position table of {whole}",
            needed=f"at most {whole}",
            fix="a smaller picture, or denoiser.positions.kind=grid",
        )
    return (whole - size) // 2


def sinusoidal_table(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Row and column coordinates (float64) -> [rows x columns, width], tokens row by row.

    The first D/2 channels encode the column, the last D/2 the row; each half is [sin | cos] of coordinate
    10000^(-i / (D/4)), computed in float64.
    """
    by_row, by_column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.cat([_axis(by_column.flatten(), width // 2), _axis(by_row.flatten(), width // 2)], dim=1)


def _axis(coordinate: Tensor, width: int) -> Tensor:
    quarter = width // 2
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = coordinate.unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
