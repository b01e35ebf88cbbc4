"""Position of a token: 2-D position tables for any grid, and how they are made for a grid of another size.

A table of another size than that of pre-training can be made in three ways (arXiv 2411.03177; docs/method.md, section 5.1):
resampled (the coordinates are spread over the range they had), bicubic (the table's values are interpolated), extrapolated
(the coordinates go on beyond that range, which no training has seen).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError

_MOST_KEPT = 16
"""Grids whose table is kept: more than the shapes of a training in buckets at 512 px."""

Grid = tuple[int, int]
"""Rows and columns of tokens."""

GridChange = Literal["resample", "bicubic", "extrapolate"]
"""How positions are made for another grid. A table of learned numbers has no coordinates: `resample` interpolates it too. A
table of offsets has them, and is sampled at the right ones by both: `resample` bilinearly, `bicubic` by a cubic."""


class GridPositions(Config):
    """Coordinates 0, 1, ... of the grid (DiT). With `base` they are i * base / size: a larger grid keeps the range of a grid of
    `base` tokens a side (PixArt)."""

    kind: Literal["grid"] = "grid"
    base: float | None = Field(default=None, gt=0)


class CentredPositions(Config):
    """The middle of a square table of `side` tokens, coordinates i * base / side (Stable Diffusion 3: 192 and 64)."""

    kind: Literal["centred"] = "centred"
    side: int = Field(default=192, ge=1)
    base: float = Field(default=64.0, gt=0)


FormulaConfig = Annotated[GridPositions | CentredPositions, Field(discriminator="kind")]


class ResampledPositions(Config):
    """The coordinates that `of` gives to a grid of `rows` x `columns`, spread over the present grid: token i of n has the
    coordinate of position i * rows / n in the former (arXiv 2411.03177)."""

    kind: Literal["resample"] = "resample"
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    of: FormulaConfig = GridPositions()


class BicubicPositions(Config):
    """The table of `of` for a grid of `rows` x `columns`, its values interpolated to the present grid."""

    kind: Literal["bicubic"] = "bicubic"
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    of: Annotated[GridPositions | CentredPositions | ResampledPositions, Field(discriminator="kind")] = GridPositions()


class StoredPositions(Config):
    """A table that came with imported weights, [rows, columns, D]; a smaller grid is cut from its middle."""

    kind: Literal["stored"] = "stored"
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)


ComputedPositions = GridPositions | CentredPositions | ResampledPositions | BicubicPositions
PositionsConfig = Annotated[ComputedPositions | StoredPositions, Field(discriminator="kind")]


@runtime_checkable
class SizedByGrid(Protocol):
    """A module whose tensors have the size of a grid of tokens."""

    def resize(self, values: Tensor, source: Any, fresh: Tensor, how: GridChange) -> Tensor:
        """Resize the values of the same module in another network to this module's grid.

        Args:
            values: The other module's tensor.
            source: The other module.
            fresh: Initial values of this module's tensor, whose shape the result has.
            how: Interpolation, or the same positions.

        Returns:
            The resized tensor; `values` itself where the grids are equal.
        """

    def resize_method(self, how: GridChange) -> str:
        """Say in a few words what `resize` does to values of another grid."""


class Positions(nn.Module):
    """A fixed 2-D position table, made for any grid and kept for some of the last ones used. Not trained."""

    def __init__(self, config: PositionsConfig, width: int) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"denoiser.width={width} does not fit 2-D positions", needed="a multiple of 4")
        self.config, self.width = config, width
        if isinstance(config, StoredPositions):
            self.register_buffer("table", torch.zeros(config.rows, config.columns, width))
        self._kept: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the vectors of a grid.

        Args:
            grid: Rows and columns of tokens.
            device: Device of the result.

        Returns:
            [T, D], float32, row by row.

        Raises:
            ConfigError: The grid is larger than a table of fixed size.
        """
        if isinstance(self.config, StoredPositions):
            return self._cut(grid)
        key = (*grid, device)
        if key not in self._kept:
            while len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = computed_table(self.config, grid, self.width).float().to(device)
        return self._kept[key]

    def resize(self, values: Tensor, source: Positions, fresh: Tensor, how: GridChange) -> Tensor:
        """Interpolate a stored table [rows, columns, D] to this one's size; see `SizedByGrid`."""
        if values.shape == fresh.shape:
            return values
        (rows, columns), to = values.shape[:2], fresh.shape[:2]
        return resized(values.flatten(0, 1), (rows, columns), (to[0], to[1])).reshape(fresh.shape)

    def resize_method(self, how: GridChange) -> str:
        """See `SizedByGrid`."""
        return "bicubic"

    def _cut(self, grid: Grid) -> Tensor:
        table = self.get_buffer("table")
        top, left = (_margin(whole, size) for whole, size in zip(table.shape[:2], grid, strict=True))
        return table[top : top + grid[0], left : left + grid[1]].flatten(0, 1)


def require_room(config: PositionsConfig, grid: Grid) -> None:
    """Raise ConfigError for a grid that is larger than a table of fixed size."""
    match config:
        case StoredPositions(rows=rows, columns=columns):
            sides = rows, columns
        case CentredPositions(side=side):
            sides = side, side
        case _:
            return
    for whole, size in zip(sides, grid, strict=True):
        _margin(whole, size)


def computed_table(config: ComputedPositions, grid: Grid, width: int) -> Tensor:
    """Compute the position vectors of a grid: [T, width], float64, row by row."""
    if isinstance(config, BicubicPositions):
        own = (config.rows, config.columns)
        return resized(computed_table(config.of, own, width), own, grid)
    return sinusoidal_table(*coordinates(config, grid), width)


def coordinates(config: GridPositions | CentredPositions | ResampledPositions, grid: Grid) -> tuple[Tensor, Tensor]:
    """Compute the row coordinates [rows] and column coordinates [columns] of a grid, float64."""
    indices = [torch.arange(size, dtype=torch.float64) for size in grid]
    return _along(config, 0, indices[0], grid[0]), _along(config, 1, indices[1], grid[1])


def _along(config: GridPositions | CentredPositions | ResampledPositions, axis: int, indices: Tensor, size: int) -> Tensor:
    """Compute the coordinates of indices, which need not be whole, along an axis of `size` tokens."""
    match config:
        case GridPositions(base=base):
            return indices if base is None else indices * (base / size)
        case CentredPositions(side=side, base=base):
            return (indices + _margin(side, size)) * (base / side)
        case ResampledPositions(rows=rows, columns=columns, of=of):
            own = (rows, columns)[axis]
            return _along(of, axis, indices * (own / size), own)


def _margin(whole: int, size: int) -> int:
    if size > whole:
        raise ConfigError(
            f"{size} tokens a side do not fit a position table of {whole}",
            needed=f"at most {whole}",
            fix="a smaller picture, or denoiser.positions.kind=grid",
        )
    return (whole - size) // 2


def sinusoidal_table(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Compute a 2-D sinusoidal position table (Vaswani et al. 2017, section 3.5, for each axis).

    The first D/2 channels encode the column, the last D/2 the row; each half is [sin | cos] of coordinate
    10000^(-i / (D/4)), computed in float64.

    Args:
        rows: Row coordinates, float64.
        columns: Column coordinates, float64.
        width: Width D of the vectors, a multiple of 4.

    Returns:
        [rows x columns, D], float64, tokens row by row.
    """
    by_row, by_column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.cat([_axis(by_column.flatten(), width // 2), _axis(by_row.flatten(), width // 2)], dim=1)


def _axis(coordinate: Tensor, width: int) -> Tensor:
    quarter = width // 2
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = coordinate.unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def resized(values: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Resize a table by bicubic interpolation of each channel.

    Both grids cover the same area, with positions in the middle of cells.

    Args:
        values: Vectors [rows x columns + N, D], row by row; the last N have no position and stay as they are.
        grid: (rows, columns) of the vectors.
        to: (rows, columns) of the result.

    Returns:
        The vectors of the other grid; `values` itself where the grids are equal.
    """
    if grid == to:
        return values
    count = grid[0] * grid[1]
    planes = values[:count].t().reshape(1, -1, *grid)  # [1, D, rows, columns]
    there = F.interpolate(planes, to, mode="bicubic", antialias=True)  # without antialias torch's kernel bends a slope
    return torch.cat([there.flatten(2)[0].t(), values[count:]])


def positions_on(config: PositionsConfig, grid: Grid, to: Grid, how: GridChange) -> PositionsConfig:
    """Choose the positions of a network that was pre-trained with `config` on `grid`, for another grid.

    Args:
        config: Positions of the pre-trained network.
        grid: (rows, columns) of its tokens.
        to: (rows, columns) of the other grid.
        how: Way to make the new table.

    Returns:
        The positions for the other grid; `config` where the grids are equal.

    Raises:
        ConfigError: There is no such table: coordinates that were resampled or interpolated once cannot be extrapolated, and
            values that were interpolated have no coordinates to resample.
    """
    if grid == to:
        return config
    match how, config:
        case _, StoredPositions(rows=rows, columns=columns):
            if how == "extrapolate":
                return config
            return StoredPositions(rows=round(rows * to[0] / grid[0]), columns=round(columns * to[1] / grid[1]))
        case "resample", GridPositions(base=None) | CentredPositions():
            return ResampledPositions(rows=grid[0], columns=grid[1], of=config)
        case "resample", BicubicPositions():
            raise ConfigError(
                "the source's positions are interpolated values (kind bicubic), which have no coordinates to resample",
                needed="to interpolate again, from the first grid's values, or a source before it",
                fix="init_from.positions=bicubic",
            )
        case "bicubic", GridPositions() | CentredPositions() | ResampledPositions():
            return BicubicPositions(rows=grid[0], columns=grid[1], of=config)
        case "extrapolate", GridPositions(base=base) if base is not None and to[0] * grid[1] == to[1] * grid[0]:
            return GridPositions(base=base * to[0] / grid[0])
        case "extrapolate", ResampledPositions() | BicubicPositions() | GridPositions(base=float()):
            raise ConfigError(
                f"positions of kind {config.kind} cannot be extrapolated from a grid of {grid[0]}x{grid[1]} to {to[0]}x{to[1]}",
                fix=f"init_from.positions={'bicubic' if isinstance(config, BicubicPositions) else 'resample'}",
            )
    return config
