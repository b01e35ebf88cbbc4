"""Learned tables on other grids than their own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import Conditions
from open_ldm.denoisers.blocks.grid_table import GridTable
from open_ldm.denoisers.blocks.offset_table import offsets_resized
from open_ldm.denoisers.blocks.positions import Grid, GridChange, resized
from open_ldm.denoisers.blocks.relative_bias import RelativeBias, token_pairs
from tests.denoisers.test_mdtv2 import build
from tests.helpers import randn

CPU = torch.device("cpu")


def ramp(rows: int, columns: int, down: float, right: float) -> Tensor:
    """A plane rising steadily over the unit square, seen from the middles of its cells, as one channel [rows x columns, 1]."""
    row, column = (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns
    return (down * row.unsqueeze(1) + right * column).flatten().unsqueeze(1)


def interior(values: Tensor, rows: int, columns: int) -> Tensor:
    return values.view(rows, columns)[4:-4, 4:-4]


@pytest.mark.parametrize("to", [(12, 17), (16, 12), (12, 24), (24, 16), (9, 10)])
def test_a_slope_stays_that_slope(to: tuple[int, int]) -> None:
    for down, right in ((3.0, 0.0), (0.0, 3.0), (1.0, -2.0)):
        found = resized(ramp(12, 16, down, right), (12, 16), to)
        wanted = ramp(*to, down, right)
        shrinks = to[0] < 12 or to[1] < 16  # then the kernel is widened, and its samples no longer balance exactly
        bound = 4e-3 if shrinks else 1e-5
        torch.testing.assert_close(interior(found, *to), interior(wanted, *to), rtol=0, atol=bound)


def test_channels_are_apart_and_vectors_beyond_the_grid_stay() -> None:
    values = randn(6 * 4 + 3, 5)
    found = resized(values, (6, 4), (7, 9))
    assert found.shape == (63 + 3, 5)
    assert torch.equal(found[63:], values[24:])
    alone = resized(values[:, 2:3], (6, 4), (7, 9))
    torch.testing.assert_close(found[:, 2:3], alone)
    turned = values[:24].view(6, 4, 5).transpose(0, 1).reshape(24, 5)
    back = resized(turned, (4, 6), (9, 7)).view(9, 7, 5).transpose(0, 1).reshape(63, 5)
    torch.testing.assert_close(back, found[:63])
    assert resized(values, (6, 4), (6, 4)) is values


def test_what_is_kept_follows_the_weights() -> None:
    table, averaged = GridTable(randn(12, 4), (3, 4)), GridTable(randn(12, 4, seed=1), (3, 4))
    with torch.no_grad():
        first = averaged((5, 6))
        assert averaged((5, 6)) is first
        torch._foreach_lerp_([averaged.values], [table.values], 0.5)  # as an exponential moving average does
        torch.testing.assert_close(averaged((5, 6)), resized(averaged.values, (3, 4), (5, 6)))
        twin = copy.deepcopy(averaged)
        twin.values.zero_()
        assert not twin((5, 6)).any() and averaged((5, 6)).any()
        averaged.load_state_dict({"values": torch.ones(12, 4)})
        torch.testing.assert_close(averaged((5, 6)), torch.ones(30, 4))
        assert averaged((3, 4)) is averaged.values


def test_a_resized_table_learns() -> None:
    table = GridTable(randn(12 + 3, 4), (3, 4))
    torch.autograd.backward(table((5, 2)).square().sum())
    assert table.values.grad is not None and bool((table.values.grad != 0).all())
    with torch.no_grad():
        table((5, 2))
    assert table((5, 2)).requires_grad


def slope(grid: Grid, down: float, right: float) -> Tensor:
    """A table of offsets, [(2 rows - 1) (2 columns - 1), 1], that rises steadily with the offset."""
    rows, columns = (torch.arange(1.0 - side, side) for side in grid)
    return (down * rows.unsqueeze(1) + right * columns).flatten().unsqueeze(1)


@pytest.mark.parametrize("how", ["resample", "bicubic"])
@pytest.mark.parametrize("to", [(8, 12), (12, 6), (7, 11), (5, 6), (2, 3), (3, 5)])
def test_a_slope_over_offsets_is_that_slope_over_the_same_distances(to: Grid, how: GridChange) -> None:
    """Offset d of `to` is d base / size of the old grid, to the table's outermost entry."""
    grid = (4, 6)
    for down, right in ((3.0, 0.0), (0.0, -5.0), (1.0, 2.0)):
        found = offsets_resized(slope(grid, down, right), grid, to, how)
        torch.testing.assert_close(found, slope(to, down * grid[0] / to[0], right * grid[1] / to[1]), rtol=0, atol=2e-5)
    doubled = offsets_resized(slope(grid, 1.0, 2.0), grid, (8, 12), how)
    assert torch.equal(doubled, slope((8, 12), 0.5, 1.0))


@pytest.mark.parametrize("how", ["resample", "bicubic"])
@pytest.mark.parametrize(("grid", "to"), [((4, 6), (8, 12)), ((4, 6), (12, 6)), ((8, 6), (4, 3)), ((5, 1), (5, 3))])
def test_an_offset_that_both_grids_have_keeps_its_vector(grid: Grid, to: Grid, how: GridChange) -> None:
    values = randn((2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, 5)
    found = offsets_resized(values, grid, to, how)
    there, here = (
        (table[:-3].view(2 * side[0] - 1, 2 * side[1] - 1, 5), side) for table, side in ((values, grid), (found, to))
    )
    both = 0
    for down in range(1 - to[0], to[0]):
        for right in range(1 - to[1], to[1]):
            (row, part), (column, rest) = (divmod(d * grid[axis], to[axis]) for axis, d in enumerate((down, right)))
            if not part and not rest:
                both += 1
                old = there[0][row + grid[0] - 1, column + grid[1] - 1]
                assert torch.equal(here[0][down + to[0] - 1, right + to[1] - 1], old), (down, right)
    assert both == (2 * min(grid[0], to[0]) - 1) * (2 * min(grid[1], to[1]) - 1)
    assert torch.equal(found[-3:], values[-3:])
    assert offsets_resized(values, grid, grid, how) is values


def test_offsets_between_two_known_ones_are_their_mean() -> None:
    values = randn(7 * 7, 3)
    found, old = offsets_resized(values, (4, 4), (8, 8), "resample").view(15, 15, 3), values.view(7, 7, 3)
    torch.testing.assert_close(found[2:-2:2, 1::2], (old[:-1] + old[1:])[:, :] / 2)
    torch.testing.assert_close(found[2:-2:2, 2:-2:2], (old[:-1, :-1] + old[:-1, 1:] + old[1:, :-1] + old[1:, 1:]) / 4)
    torch.testing.assert_close(found[-1, 1::2], 1.5 * old[-1] - 0.5 * old[-2])  # half a token beyond the last
    cubic = offsets_resized(values, (4, 4), (8, 8), "bicubic").view(15, 15, 3)
    torch.testing.assert_close(cubic[4:-4:2, 1::2], (9 * (old[1:-2] + old[2:-1]) - old[:-3] - old[3:]) / 16)


def test_a_bias_on_a_finer_grid_is_that_of_the_same_distance() -> None:
    """Offsets of 2 d tokens on a grid of twice as many are worth what offsets of d were."""
    grid, fine = (8, 6), (16, 12)
    bias = RelativeBias(grid, heads=2)
    with torch.no_grad():
        bias.table.values.normal_(generator=torch.Generator().manual_seed(1))
        coarse, found = (bias(token_pairs(each, 2, CPU))[0] for each in (grid, fine))
    old, new = coarse[:, :48, :48].reshape(2, 8, 6, 8, 6), found[:, :192, :192].reshape(2, 16, 12, 16, 12)
    assert torch.equal(new[:, ::2, ::2, ::2, ::2], old) and torch.equal(new[:, 1::2, 1::2, 1::2, 1::2], old)
    assert torch.equal(coarse[:, -2:, -2:], found[:, -2:, -2:])


def test_a_network_on_another_grid_is_the_network_with_resized_tables() -> None:
    small, other = (4, 4), (6, 3)
    ours, there = build(small, context=10), build(other, context=10)
    state = dict(ours.state_dict())
    for name, tensor in state.items():
        if name.endswith("bias.table.values"):
            state[name] = offsets_resized(tensor, small, other, "resample")
        elif name.endswith("positions.values"):
            state[name] = resized(tensor, small, other)
    there.load_state_dict(state)
    x, conditions = randn(2, 4, 12, 6), Conditions(randn(2, 24), randn(2, 3, 10))
    for kept in (None, randn(2, 18).argsort(dim=1)[:, :7]):
        found, wanted = (network(x, torch.ones(2), conditions, kept).mean for network in (ours, there))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
