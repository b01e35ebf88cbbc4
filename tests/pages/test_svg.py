from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_ldm.pages.axes import linear_ticks, log_ticks, scale_of, short_number
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.pages.svg import Axis, Mark, Plot, Series, line_plot, smoothed, stacked

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*series: Series, y_axis: Axis = "linear", marks: tuple[Mark, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(line_plot(Plot("a plot", "x", "y", series, marks, y_axis=y_axis)))


def curves(root: ElementTree.Element) -> list[list[tuple[str, float, float]]]:
    paths = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    return [[(move, float(x), float(y)) for move, x, y in re.findall(r"([ML])([-.\d]+) ([-.\d]+)", path)] for path in paths]


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_text_and_attributes_are_escaped_and_markup_is_not() -> None:
    hostile = "<b>&\"'"
    assert element("p", hostile, title=hostile) == ('<p title="&lt;b&gt;&amp;&quot;&#x27;">&lt;b&gt;&amp;&quot;&#x27;</p>')
    assert element("p", element("b", "x")) == "<p><b>x</b></p>"
    assert joined(["<", Markup("<br/>")]) == "&lt;<br/>"
    assert element("line", x1=1.0, x2=0.126, stroke_width=2, class_="a", id=None) == (
        '<line x1="1" x2="0.13" stroke-width="2" class="a"/>'
    )


def test_a_line_goes_through_its_points_with_y_upwards() -> None:
    (curve,) = curves(drawn(Series("s", [0, 1, 2], [0.0, 1.0, 2.0])))
    assert [move for move, *_ in curve] == ["M", "L", "L"]
    (_, x0, y0), (_, x1, y1), (_, x2, y2) = curve
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y0 > y2


def test_a_log_axis_spaces_factors_evenly_and_breaks_at_zero() -> None:
    (curve,) = curves(drawn(Series("s", [0, 1, 2, 3, 4], [1.0, 10.0, 100.0, 0.0, 1.0]), y_axis="log"))
    assert [move for move, *_ in curve] == ["M", "L", "L", "M"]
    assert curve[0][2] - curve[1][2] == pytest.approx(curve[1][2] - curve[2][2], abs=0.11)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_a_curve_breaks_where_it_is_not_finite(hole: float) -> None:
    (curve,) = curves(drawn(Series("s", [0, 1, 2, 3], [1.0, hole, 1.0, 2.0])))
    assert [move for move, *_ in curve] == ["M", "M", "L"]


@pytest.mark.parametrize("values", [[], [math.nan, math.nan], [math.inf]])
def test_nothing_finite_is_said(values: list[float]) -> None:
    root = drawn(Series("s", list(range(len(values))), values, smooth=True))
    assert words(root) == ["no finite values yet"]


def test_a_smoothed_series_has_a_faint_and_a_strong_line_and_a_spike_does_not_flatten_it() -> None:
    values = [1.0 + 0.5 * (number % 2) for number in range(400)]
    values[200] = 1e9
    raw, mean = curves(drawn(Series("s", list(range(400)), values, smooth=True)))
    assert len(raw) == len(mean) == 400
    assert raw[0][2] - raw[1][2] > 50, "the ordinary ups and downs are still tall"


def test_long_series_are_thinned_but_keep_spikes_and_gaps() -> None:
    values = [1.0] * 50_000
    values[33_333] = 9.0
    values[10_000:10_300] = [math.nan] * 300
    (curve,) = curves(drawn(Series("s", list(range(50_000)), values)))
    assert len(curve) < 1000
    assert min(y for *_, y in curve) < 60, "the spike reaches the top"
    assert [move for move, *_ in curve].count("M") == 2


def test_several_series_have_a_legend_and_marks_have_their_text() -> None:
    root = drawn(*(Series(f"series number {n}", [0, 1], [n, n]) for n in range(7)), marks=(Mark(0.5, "resumed <here>"),))
    assert [f"series number {n}" in words(root) for n in range(7)] == [True] * 7
    assert "resumed <here>" in [title.text for title in root.iter(f"{SVG}title")]
    assert len(curves(root)) == 7


def test_stacked_plots_lie_one_below_the_other_at_their_own_size() -> None:
    plots = [Plot(name, "x", "y", [Series("one", [0, 1], [2, 3])], height=height) for name, height in (("a", 200), ("b", 300))]
    page = ElementTree.fromstring(stacked(plots))
    assert page.get("viewBox") == "0 0 640 500"
    places = [(child.get("y"), child.get("width"), child.get("height")) for child in page]
    assert places == [("0", "640", "200"), ("200", "640", "300")]
    assert [child[0].get("viewBox") for child in page] == ["0 0 640 200", "0 0 640 300"]


def test_smoothing_keeps_a_constant_follows_a_line_and_passes_over_nan() -> None:
    assert smoothed([3.0] * 50) == pytest.approx([3.0] * 50)
    assert smoothed([]) == []
    line = smoothed([float(n) for n in range(1000)])
    assert line[500] == pytest.approx(500, abs=1), "no lag"
    holes = smoothed([2.0, math.nan, 2.0] * 40)
    assert holes == pytest.approx([2.0] * 120)


values = st.floats(-1e12, 1e12).map(lambda value: 0.0 if abs(value) < 1e-9 else value)


@given(values, values)
def test_linear_ticks_are_round_and_inside(one: float, other: float) -> None:
    scale = scale_of([one, other], "linear", 0, 100)
    assert scale is not None
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)


@given(st.floats(1e-9, 1e9), st.floats(1.5, 1e9))
def test_log_ticks_are_few_and_inside(low: float, factor: float) -> None:
    scale = scale_of([low, low * factor], "log", 0, 100)
    assert scale is not None
    assert 1 <= len(scale.ticks(5)) <= 14


def test_ticks_of_known_ranges() -> None:
    assert linear_ticks(160, 32000, 3) == pytest.approx([10000, 20000, 30000])
    assert linear_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [tick for tick in log_ticks(0.02, 1.0) if 0.02 <= tick <= 1.0] == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1])


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


def test_a_band_is_shaded_between_its_ends_and_widens_the_axis() -> None:
    series = Series("mean", [0, 1, 2], [1.0, 2.0, 3.0], band=[(0.5, 1.5), (1.0, 3.0), (2.0, 9.0)])
    drawn = line_plot(Plot("t", "x", "y", [series]))
    path = re.search(r'class="band s0" d="M([^"]*)Z"', drawn)
    assert path is not None and len(path[1].split("L")) == 6
    heights = [float(corner.split()[1]) for corner in path[1].split("L")]
    assert heights[3] == min(heights) and heights[0] == max(heights)  # the highest end of all, the lowest of all
    assert "band" not in line_plot(Plot("t", "x", "y", [Series("plain", [0, 1], [1.0, 2.0])])).split("</style>")[1]
