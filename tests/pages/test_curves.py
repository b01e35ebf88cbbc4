"""What of a series is shown."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_ldm.pages.curves import coincident, drawable, limits, lone, smoothed, thinned
from open_ldm.pages.labels import one_line, short_number, tick_labels
from open_ldm.pages.ticks import ticks_of


def test_smoothing_keeps_a_constant_follows_a_line_and_passes_over_nan() -> None:
    assert smoothed([3.0] * 50) == pytest.approx([3.0] * 50)
    assert smoothed([]) == []
    line = smoothed([float(n) for n in range(1000)])
    assert line[500] == pytest.approx(500, abs=1), "no lag"
    holes = smoothed([2.0, math.nan, 2.0] * 40)
    assert holes == pytest.approx([2.0] * 120)


def test_what_has_no_place_on_an_axis_is_a_gap() -> None:
    values = [1.0, 0.0, -1.0, math.inf, -math.inf, math.nan]
    assert np.isnan(drawable(values, "linear")).tolist() == [False, False, False, True, True, True]
    assert np.isnan(drawable(values, "log")).tolist() == [False, True, True, True, True, True]


def test_long_series_are_thinned_but_keep_spikes_and_gaps() -> None:
    values = np.ones(50_001)
    values[33_333], values[44_444] = 9.0, -9.0
    values[10_000:10_300] = math.nan
    kept = thinned(values)
    assert len(kept) < 1000 and {0, 33_333, 44_444, 50_000} <= set(kept.tolist())
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert np.isnan(values[kept]).any()
    assert thinned(values[:900]).tolist() == list(range(900))


def test_lone_points_lie_between_gaps_or_ends() -> None:
    gap = math.nan
    assert lone(np.array([1.0, gap, 2.0, gap, 3.0, 4.0])).tolist() == [True, False, True, False, False, False]
    assert lone(np.array([1.0])).tolist() == [True]


def test_limits_hold_all_values_and_are_never_empty() -> None:
    assert limits(np.array([]), "linear") is None and limits(np.array([math.nan, math.inf]), "linear") is None
    assert limits(np.array([2.0, 4.0]), "linear") == (2.0, 4.0)
    assert limits(np.array([2.0, 4.0]), "linear", zero=True, padded=True) == pytest.approx((0, 4.2))
    assert limits(np.array([-2.0, -1.0]), "linear", zero=True, padded=True) == pytest.approx((-2.1, 0))
    assert limits(np.array([5.0]), "linear") == (2.5, 7.5) and limits(np.array([0.0]), "linear") == (-1, 1)
    assert limits(np.array([5.0]), "log") == (2.5, 10)


def test_curves_on_one_another_are_found() -> None:
    x = np.linspace(0, 600, 200)
    curve = 150 + 100 * np.sin(x / 100)
    coarse = x[::3]
    others = [(x, curve + 40), (x, curve + 0.5), (coarse, curve[::3]), (x, np.where(x < 300, curve, curve + 30))]
    assert coincident([(x, curve), *others]) == [(0, 3), (0, 1), (1, 3), (2, 3), (0, 1)]
    assert coincident([]) == []
    nothing = (x, np.full_like(x, math.nan))
    assert coincident([nothing, nothing]) == [(0, 1), (0, 1)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (1e-4, "1e-4"),
        (2.5e-5, "2.5e-5"),
        (1500, "1,500"),
        (2e4, "20k"),
        (1.5e6, "1.5M"),
        (3e9, "3B"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def test_labels_tell_ticks_apart() -> None:
    assert tick_labels([0.99999, 0.999992, 0.999994]) == ["0.99999", "0.999992", "0.999994"]
    assert tick_labels([1000.0, 1000.5, 1001.0]) == ["1,000.0", "1,000.5", "1,001.0"]
    assert tick_labels([-1.0, 1e-17, 1.0]) == ["−1", "0", "1"]
    assert tick_labels([]) == []


def test_labels_are_one_line_of_what_xml_can_hold() -> None:
    assert one_line(" a\n b\t<c> ") == "a b <c>"
    assert one_line("a\x07\udce4b") == "a\ufffd\ufffdb"


def ten(label: str) -> float:
    return 10 * len(label)


def test_ticks_of_known_ranges() -> None:
    assert ticks_of("linear", 160, 32000, 300, ten) == (pytest.approx([10000, 20000, 30000]), ["10k", "20k", "30k"])
    assert ticks_of("linear", 0, 1, 300, ten)[0] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks_of("log", 0.02, 1, 600, ten)[0] == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1])
    assert ticks_of("log", 1e-6, 1, 300, ten)[1] == ["1e−6", "1e−4", "0.01", "1"]
    assert ticks_of("log", 1.0, 1.4, 300, ten)[0] == pytest.approx([1, 1.1, 1.2, 1.3, 1.4])


values = st.floats(-1e12, 1e12).map(lambda value: 0.0 if abs(value) < 1e-9 else value)


@given(values, values, st.sampled_from([300, 640]))
def test_linear_ticks_are_inside_and_have_room(one: float, other: float, room: int) -> None:
    found = limits(np.array([one, other]), "linear")
    assert found is not None
    low, high = found
    ticks, labels = ticks_of("linear", low, high, room, ten)
    assert all(low <= tick <= high for tick in ticks) and len(ticks) >= 1 and len(set(labels)) == len(labels)
    places = [room * (tick - low) / (high - low) for tick in ticks]
    assert all(after - before >= max(map(ten, labels)) - 1e-6 for before, after in pairwise(places))


@given(st.floats(1e-9, 1e9), st.floats(1.5, 1e9), st.sampled_from([300, 640]))
def test_log_ticks_are_inside_and_have_room(low: float, factor: float, room: int) -> None:
    high = low * factor
    ticks, labels = ticks_of("log", low, high, room, ten)
    assert all(low <= tick <= high for tick in ticks) and len(ticks) >= 1 and len(set(labels)) == len(labels)
    places = [room * math.log(tick / low) / math.log(factor) for tick in ticks]
    assert all(after - before >= max(map(ten, labels)) - 1e-6 for before, after in pairwise(places))
