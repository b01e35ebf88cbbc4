"""Learned tables on other grids than their own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import Conditions
from open_ldm.denoisers.blocks.grid_table import GridTable, resized
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


def test_a_bias_on_a_finer_grid_is_that_of_the_same_distance() -> None:
    """Offsets of 2 d tokens on a grid of twice as many are worth about what offsets of d were."""
    grid, fine = (8, 6), (16, 12)
    bias = RelativeBias(grid, heads=1)
    down, right = torch.arange(-7.0, 8.0), torch.arange(-5.0, 6.0)
    with torch.no_grad():
        bias.table.values[:-3, 0] = (down.unsqueeze(1) * 2 + right).flatten()
    coarse, found = bias(token_pairs(grid, 2, CPU)), bias(token_pairs(fine, 2, CPU))
    assert coarse[0, 0, 3 * 6 + 2, 1 * 6 + 4] == 2 * 2 - 2
    query, key = 8 * 12 + 6, 5 * 12 + 4  # 3 rows up, 2 columns left
    assert float(found.detach()[0, 0, query, key]) == pytest.approx(2 * 1.5 + 1, rel=0.05)
    assert torch.equal(coarse[0, 0, -2:, -2:], found[0, 0, -2:, -2:])


def test_a_network_on_another_grid_is_the_network_with_resized_tables() -> None:
    small, other = (4, 4), (6, 3)
    ours, there = build(small, context=10), build(other, context=10)
    state = dict(ours.state_dict())
    for name, tensor in state.items():
        if name.endswith("bias.table.values"):
            state[name] = resized(tensor, (7, 7), (11, 5))
        elif name.endswith("positions.values"):
            state[name] = resized(tensor, small, other)
    there.load_state_dict(state)
    x, conditions = randn(2, 4, 12, 6), Conditions(randn(2, 24), randn(2, 3, 10))
    for kept in (None, randn(2, 18).argsort(dim=1)[:, :7]):
        found, wanted = (network(x, torch.ones(2), conditions, kept).mean for network in (ours, there))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
