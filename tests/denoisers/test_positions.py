"""Positions of another grid: resampled, interpolated, extrapolated; square or not."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.blocks.positions import (
    BicubicPositions,
    CentredPositions,
    Grid,
    GridChange,
    GridPositions,
    Positions,
    PositionsConfig,
    ResampledPositions,
    StoredPositions,
    computed_table,
    coordinates,
    positions_on,
    resized,
)

WIDTH = 32
CPU = torch.device("cpu")
GRIDS: list[tuple[Grid, Grid]] = [((4, 4), (8, 8)), ((4, 6), (8, 12)), ((4, 6), (6, 6)), ((8, 8), (4, 2))]
FORMULAS: list[PositionsConfig] = [GridPositions(), GridPositions(base=6), CentredPositions(side=24, base=8)]


def table(config: PositionsConfig, grid: Grid) -> Tensor:
    return Positions(config, WIDTH)(grid, CPU).view(*grid, WIDTH)


@pytest.mark.parametrize(("grid", "to"), GRIDS)
def test_resampled_coordinates_keep_their_range(grid: Grid, to: Grid) -> None:
    positions = positions_on(GridPositions(), grid, to, "resample")
    assert isinstance(positions, ResampledPositions)
    for axis, found in enumerate(coordinates(positions, to)):
        wanted = torch.arange(to[axis], dtype=torch.float64) * grid[axis] / to[axis]
        torch.testing.assert_close(found, wanted, rtol=1e-15, atol=0)
        assert float(found.max()) < grid[axis]


def test_a_doubled_grid_holds_the_old_one_bit_for_bit() -> None:
    for formula in (GridPositions(), CentredPositions(side=24, base=8)):
        doubled = table(positions_on(formula, (4, 6), (8, 12), "resample"), (8, 12))
        assert torch.equal(doubled[::2, ::2], table(formula, (4, 6)))


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda config: f"{config.kind}")
@pytest.mark.parametrize("how", ["resample", "bicubic", "extrapolate"])
def test_on_its_own_grid_nothing_changes(formula: PositionsConfig, how: GridChange) -> None:
    assert positions_on(formula, (4, 6), (4, 6), how) == formula
    moved = positions_on(formula, (4, 4), (8, 8), how)
    assert torch.equal(table(moved, (4, 4)), table(formula, (4, 4))) or formula == GridPositions(base=6)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda config: f"{config.kind}")
def test_bicubic_interpolates_the_values_of_the_old_table(formula: PositionsConfig) -> None:
    bicubic = positions_on(formula, (4, 6), (8, 12), "bicubic")
    wanted = resized(computed_table(formula, (4, 6), WIDTH), (4, 6), (8, 12)).float().view(8, 12, WIDTH)  # type: ignore[arg-type]
    assert isinstance(bicubic, BicubicPositions) and torch.equal(table(bicubic, (8, 12)), wanted)
    resampled = table(positions_on(formula, (4, 6), (8, 12), "resample"), (8, 12))
    assert not torch.allclose(resampled, wanted, atol=1e-2)


def test_extrapolated_coordinates_go_on() -> None:
    assert positions_on(GridPositions(), (4, 4), (8, 8), "extrapolate") == GridPositions()
    assert torch.equal(table(GridPositions(), (8, 8))[:4, :4], table(GridPositions(), (4, 4)))
    going_on = positions_on(GridPositions(base=6), (4, 4), (8, 8), "extrapolate")
    assert torch.equal(table(going_on, (8, 8))[:4, :4], table(GridPositions(base=6), (4, 4)))
    for once, way in ((ResampledPositions(rows=4, columns=4), "resample"), (BicubicPositions(rows=4, columns=4), "bicubic")):
        with pytest.raises(ConfigError, match=f"cannot be extrapolated.*positions={way}"):
            positions_on(once, (8, 8), (16, 16), "extrapolate")


def test_interpolated_values_are_interpolated_again_and_nothing_else() -> None:
    once = positions_on(GridPositions(), (4, 6), (8, 12), "bicubic")
    with pytest.raises(ConfigError, match=r"no coordinates to resample.*positions=bicubic"):
        positions_on(once, (8, 12), (16, 24), "resample")
    assert positions_on(once, (8, 12), (8, 12), "resample") == once  # the same grid: nothing to do
    twice = positions_on(once, (8, 12), (16, 24), "bicubic")
    assert twice == positions_on(GridPositions(), (4, 6), (16, 24), "bicubic")


def test_a_second_step_starts_from_the_first_grid() -> None:
    once = positions_on(GridPositions(), (4, 6), (8, 12), "resample")
    twice = positions_on(once, (8, 12), (16, 24), "resample")
    assert twice == positions_on(GridPositions(), (4, 6), (16, 24), "resample")
    assert torch.equal(table(twice, (16, 24))[::2, ::2], table(once, (8, 12)))


def test_a_centred_table_keeps_its_window() -> None:
    """Stable Diffusion 3 at twice the size: its window of the large table is sampled twice as finely, not widened."""
    formula = CentredPositions(side=192, base=64)
    rows, _ = coordinates(formula, (64, 64))
    finer, _ = coordinates(positions_on(formula, (64, 64), (128, 128), "resample"), (128, 128))  # type: ignore[arg-type]
    wider, _ = coordinates(formula, (128, 128))
    assert finer[0] == rows[0] and torch.equal(finer[::2], rows)
    assert float(wider[0]) < float(rows[0]) and float(wider[-1]) > float(rows[-1])


def test_a_stored_table_grows_with_its_grid() -> None:
    stored = StoredPositions(rows=12, columns=8)
    assert positions_on(stored, (4, 4), (8, 8), "resample") == StoredPositions(rows=24, columns=16)
    assert positions_on(stored, (4, 4), (8, 8), "extrapolate") == stored


def test_configs_are_told_apart_by_kind() -> None:
    adapter: TypeAdapter[PositionsConfig] = TypeAdapter(PositionsConfig)
    resampled = ResampledPositions(rows=4, columns=6, of=CentredPositions())
    for config in (
        GridPositions(),
        resampled,
        BicubicPositions(rows=4, columns=6, of=resampled),
        StoredPositions(rows=2, columns=3),
    ):
        assert adapter.validate_python(config.model_dump()) == config
