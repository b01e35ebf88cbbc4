"""Figures on pages and in files."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import open_ldm
from open_ldm.core.errors import ConfigError
from open_ldm.pages import drawing, figures
from open_ldm.pages.charts import FORMATS, Cell, Chart, Forest, HeatMap, Mark, Plot, Row, Series
from open_ldm.pages.colours import CURVES, INK, ON_DARK
from open_ldm.pages.curves import Axis
from open_ldm.pages.drawing import drawn
from open_ldm.pages.figures import inline, line_plot, save_figure

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script> & $x_1$ \"quoted\" 'single' \x07 \udce4 猫 -->"
LONG = "flip, crop, original size and aspect ratio (power cosine α = 4), and a word of manymanymanymanymanymanymanymany letters"
HEAT = HeatMap("FD", ("beta_1", "beta_2"), [Cell("0.9", "0.999", 2.0), Cell("0.8", "0.95", 7.0), Cell("0.9", "0.95", 3.0)])
FOREST = Forest("error (lower is better)", [Row(name, 0.3, 0.2, 0.5, [0.25, 0.35]) for name in ("one", "another", LONG)], 380)


def plotted(*series: Series, y_axis: Axis = "linear", marks: tuple[Mark, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(line_plot(Plot("a plot", "x", "y", series, marks, y_axis=y_axis)))


def strokes(root: ElementTree.Element) -> list[ElementTree.Element]:
    """The lines of the curves, faint ones too; pieces of the legend are short."""
    return [
        path
        for path in root.iter(f"{SVG}path")
        if path.get("stroke") in CURVES and path.get("fill") == "none" and len(points(path)) != 2
    ]


def points(path: ElementTree.Element) -> list[tuple[str, float, float]]:
    """Each corner of a path: how it is reached, x and y in px of the figure."""
    found = re.findall(r"([ML]) ([-.\d]+) ([-.\d]+)", path.get("d", ""))
    right, down = map(float, re.findall(r"-?[\d.]+", path.get("transform", "")) or (0, 0))
    return [(move, float(x) + right, float(y) + down) for move, x, y in found]


def opacity(path: ElementTree.Element) -> float:
    return float(path.get("opacity") or path.get("fill-opacity") or path.get("stroke-opacity") or 1)


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_a_line_goes_through_its_points_with_y_upwards() -> None:
    (curve,) = map(points, strokes(plotted(Series("s", [0, 1, 2], [0.0, 1.0, 2.0]))))
    assert [move for move, *_ in curve] == ["M", "L", "L"]
    (_, x0, y0), (_, x1, y1), (_, x2, y2) = curve
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02) and x1 - x0 > 200
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.02) and y0 - y1 > 100


def test_a_log_axis_spaces_factors_evenly_and_breaks_at_zero() -> None:
    curve = points(strokes(plotted(Series("s", [0, 1, 2, 3, 4, 5], [1.0, 10.0, 100.0, 0.0, 1.0, 1.0]), y_axis="log"))[0])
    assert [move for move, *_ in curve] == ["M", "L", "L", "M", "L"]
    assert curve[0][2] - curve[1][2] == pytest.approx(curve[1][2] - curve[2][2], abs=0.02)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_a_curve_breaks_where_it_is_not_finite_and_a_lone_point_is_a_dot(hole: float) -> None:
    root = plotted(Series("s", [0, 1, 2, 3], [1.0, hole, 1.0, 2.0]))
    (curve,) = map(points, strokes(root))
    assert [move for move, *_ in curve] == ["M", "M", "L"]
    (dot,) = [path for path in root.iter(f"{SVG}path") if path.get("fill") == CURVES[0]]
    assert dot.get("transform") == f"translate({curve[0][1]:g} {curve[0][2]:g})"


def test_a_single_measurement_is_seen_with_its_interval() -> None:
    root = plotted(Series("s", [1000], [0.5], band=[(0.4, 0.7)]))
    (dot,) = [path for path in root.iter(f"{SVG}path") if path.get("fill") == CURVES[0] and opacity(path) == 1]
    (interval,) = [path for path in root.iter(f"{SVG}path") if path.get("stroke") == CURVES[0] and opacity(path) < 1]
    (_, x, low), (_, _, high) = points(interval)
    assert low - high > 100 and dot.get("transform", "").startswith(f"translate({x:g} ")


@pytest.mark.parametrize("values", [[], [math.nan, math.nan], [math.inf]])
def test_nothing_finite_is_said(values: list[float]) -> None:
    root = plotted(Series("s", list(range(len(values))), values, smooth=True))
    assert words(root) == ["no finite values yet"]
    assert words(plotted()) == ["no finite values yet"]


def test_a_smoothed_series_has_a_faint_and_a_strong_line_and_a_spike_does_not_flatten_it() -> None:
    values = [1.0 + 0.5 * (number % 2) for number in range(400)]
    values[200] = 1e9
    root = plotted(Series("s", list(range(400)), values, smooth=True))
    raw, mean = strokes(root)
    assert opacity(raw) < 0.5 and opacity(mean) == 1
    ups_and_downs = points(raw)
    assert ups_and_downs[0][2] - ups_and_downs[1][2] > 50, "the ordinary ups and downs are still tall"
    windows = [window for window in root.iter(f"{SVG}svg") if window.get("overflow") == "hidden"]
    assert [len(window) for window in windows] == [1, 1], "the spike is cut off at the edge of the axes"
    assert all(float(window.get("y", 0)) >= 0 and float(window.get("height", 0)) < 320 for window in windows)


def test_long_series_keep_spikes_and_gaps() -> None:
    values = [1.0] * 50_000
    values[33_333] = 9.0
    values[10_000:10_300] = [math.nan] * 300
    (curve,) = map(points, strokes(plotted(Series("s", list(range(50_000)), values))))
    assert len(curve) < 1000
    assert min(y for *_, y in curve) < 60, "the spike reaches the top"
    assert [move for move, *_ in curve].count("M") == 2


def test_several_series_have_a_legend_and_marks_have_their_text() -> None:
    series = [Series(f"series number {n}", [0, 1, 2], [n, n, 2 * n]) for n in range(7)]
    root = plotted(*series, marks=(Mark(0.5, "resumed <here>"), Mark(9, "outside")))
    assert [f"series number {n}" in words(root) for n in range(7)] == [True] * 7
    assert [title.text for title in root.iter(f"{SVG}title")] == ["a plot", "resumed <here>"]
    looks = {(path.get("stroke"), path.get("stroke-dasharray")) for path in strokes(root)}
    assert len(looks) == 7, "the seventh has the first one's colour, but other dashes"


def test_curves_on_one_another_are_drawn_in_each_others_gaps() -> None:
    x = [n / 100 for n in range(101)]
    same, other = [1 - v for v in x], [0.5 - v / 2 for v in x]
    root = plotted(Series("a", x, same), Series("b", x, other), Series("c", x, same), Series("d", x, same))
    one, alone, two, three = strokes(root)
    assert alone.get("stroke-dasharray") is None
    (length,) = {path.get("stroke-dasharray") for path in (one, two, three)}
    on, off = map(float, (length or "").split(","))
    assert off == 2 * on
    begins = sorted(-float(path.get("stroke-dashoffset", 0)) % (on + off) for path in (one, two, three))
    assert begins == pytest.approx([0, on, 2 * on]), "no part of the line belongs to two of them"


def test_a_band_is_shaded_between_its_ends_and_widens_the_axis() -> None:
    root = plotted(Series("mean", [0, 1, 2], [1.0, 2.0, 3.0], band=[(0.5, 1.5), (1.0, 3.0), (2.0, 9.0)]))
    (band,) = [path for path in root.iter(f"{SVG}path") if path.get("fill") == CURVES[0]]
    heights = sorted({y for *_, y in points(band)})
    (curve,) = map(points, strokes(root))
    assert len(heights) == 6 and opacity(band) < 0.5
    assert heights[0] < min(y for *_, y in curve) - 100 and heights[-1] > max(y for *_, y in curve)


def test_an_interval_that_reaches_below_zero_is_shaded_to_the_bottom_of_a_log_axis() -> None:
    root = plotted(Series("mean", [0, 1, 2], [1.0, 0.1, 0.01], band=[(0.5, 2), (-0.1, 0.3), (-1, 0.1)]), y_axis="log")
    (band,) = [path for path in root.iter(f"{SVG}path") if path.get("fill") == CURVES[0]]
    assert {x for _, x, _ in points(band)} >= {x for _, x, _ in points(strokes(root)[0])}


CHARTS: list[Chart] = [
    Plot(HOSTILE, HOSTILE, HOSTILE, [Series(HOSTILE, [0, 1], [1, 2]), Series("b", [0, 1], [1, 2])], [Mark(0.5, HOSTILE)]),
    HeatMap(HOSTILE, (HOSTILE, HOSTILE), [Cell(HOSTILE, "a", 1.0), Cell("0.5", HOSTILE, math.nan)]),
    Forest(HOSTILE, [Row(HOSTILE, 1.0, 0.5, 2.0, [0.7])]),
]


@pytest.mark.parametrize("chart", CHARTS)
def test_captions_never_become_markup(chart: Chart) -> None:
    text = inline(chart)
    root = ElementTree.fromstring(text)
    tags = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert tags <= {"svg", "title", "style", "g", "path", "text"}
    assert not {"script", "image", "foreignObject"} & tags and "<script" not in text
    shown = " ".join(part or "" for one in root.iter() for part in (one.text,))
    assert "alert(1)" in shown and "$x_1$" in shown and "猫" in shown


@pytest.mark.parametrize("chart", [*CHARTS, HEAT, FOREST])
def test_a_figure_on_a_page_stands_alone(chart: Chart) -> None:
    text = inline(chart)
    root = ElementTree.fromstring(text)
    assert text == inline(chart), "the same charts give the same text"
    assert root.tag == f"{SVG}svg" and root.get("role") == "img" and root.get("viewBox", "").startswith("0 0 ")
    assert root.get("width") is None and root.get("height") is None
    assert root[0].tag == f"{SVG}title" and root[0].text
    for one in root.iter():
        assert not {"id", "href", "{http://www.w3.org/1999/xlink}href", "clip-path", "style"} & set(one.keys()) - (
            {"style"} if one is root else set()
        )
    assert re.findall(r"https?:[^\"]*|url\(|@import|@font-face", text) == ["http://www.w3.org/2000/svg"]
    assert "<!" not in text and "<?" not in text and "20" + "2" not in re.sub(r'[ ,"]\S*\d\S*', "", text), "no date"


@pytest.mark.parametrize("chart", [*CHARTS, HEAT, FOREST])
def test_every_colour_has_one_for_dark_pages(chart: Chart) -> None:
    root = ElementTree.fromstring(inline(chart))
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme:dark" in style and INK not in "".join(one.get("stroke", "") for one in root.iter())
    for one in root.iter():
        for side in ("stroke", "fill"):
            colour = one.get(side, "none")
            assert colour in ("none", "currentColor") or f'[{side}="{colour}"]{{{side}:{ON_DARK[colour]}}}' in style


def artists(figure: Figure) -> tuple[list[Text], Figure]:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible() and text.get_text()]
    return texts, figure


def extents(one: Artist) -> tuple[float, float, float, float]:
    box = one.get_window_extent()
    return box.x0, box.y0, box.x1, box.y1


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def layout(count: int, title: str, size: tuple[int, int], x: list[float], y: list[float], x_axis: Axis = "linear") -> Plot:
    series = [Series(f"{LONG} {n}" if n % 2 else f"{n}", x, y) for n in range(count)]
    return Plot("t", title, title, series, x_axis=x_axis, width=size[0], height=size[1])


LAYOUTS: list[Chart] = [
    layout(1, "x", (640, 320), [0.0, 31_999.0], [0.99999, 0.999994]),
    layout(7, LONG, (690, 400), [1e-7, 1e5], [-1e-4, 2e-4], "log"),
    layout(1, "held-out error of the velocity over all levels (lower is better)", (380, 200), [1e5, 1e5 + 1], [-1e12, 1e12]),
    layout(7, "x", (380, 270), [0.0, 31_999.0], [0.99999, 0.999994]),
    layout(2, LONG, (380, 270), [1e-5, 3e-4], [1.0, 2.0], "log"),
    HEAT,
    HeatMap(LONG, (LONG, LONG), [Cell("a long name", "0.999", 2.0), Cell("0.8", "another long one", 7e-9)]),
    FOREST,
    Forest(LONG, [Row(LONG, 0.3, 0.2, 0.5)], 640),
]


@pytest.mark.parametrize("chart", LAYOUTS)
def test_no_text_lies_over_another_or_beyond_the_edge(chart: Chart) -> None:
    with drawn([chart], on_paper=False) as figure:
        texts, _ = artists(figure)
        boxes = {text.get_text(): extents(text) for text in texts}
        width, height = figure.bbox.width, figure.bbox.height
        for name, box in boxes.items():
            assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height, (name, box, (width, height))
        for (name, box), (other_name, other) in combinations(boxes.items(), 2):
            assert apart(box, other), (name, box, other_name, other)
        for axes in figure.axes:
            inside = axes.get_window_extent()
            assert inside.width > 80 and inside.height > 40, "there is room for the curves"
            if isinstance(chart, Plot):
                frame = (inside.x0, inside.y0, inside.x1, inside.y1)
                assert all(apart(box, frame) for box in boxes.values()), "neither a legend nor a label over the curves"


def test_several_charts_lie_one_below_the_other_at_their_own_size() -> None:
    plots = [
        Plot(name, "x", "y", [Series("one", [0, 1, 2], [2, 3, 2])], height=height) for name, height in (("a", 200), ("b", 300))
    ]
    root = ElementTree.fromstring(inline(*plots))
    assert root.get("viewBox") == "0 0 640 500"
    upper, lower = (points(path) for path in strokes(root))
    assert max(y for *_, y in upper) < 200 < min(y for *_, y in lower) and max(y for *_, y in lower) < 500


def test_a_map_has_a_cell_for_every_pair_and_the_largest_is_strongest() -> None:
    root = ElementTree.fromstring(inline(HEAT))
    cells = [path for path in root.iter(f"{SVG}path") if path.get("fill") == CURVES[0]]
    corners = {points(cell)[0][1:]: opacity(cell) for cell in cells}
    strongest = max(corners, key=corners.__getitem__)
    assert len(corners) == 3
    assert strongest[0] == min(x for x, _ in corners) and strongest[1] == min(y for _, y in corners)  # 0.8, 0.95
    assert {"2", "7", "3", "0.8", "0.9", "0.95", "0.999", "beta_1", "beta_2", "FD"} == set(words(root))


def test_a_forest_has_a_mean_an_interval_and_a_dot_for_every_seed() -> None:
    root = ElementTree.fromstring(inline(Forest("error", [Row("a", 2.0, 1.0, 4.0, [1.5, 2.5]), Row("b", 3.0, 3.0, 3.0)])))
    dots = [path for path in root.iter(f"{SVG}path") if path.get("transform") and path.get("fill") == CURVES[0]]
    at = [float(re.findall(r"[\d.]+", dot.get("transform", ""))[0]) for dot in dots]
    assert [opacity(dot) < 1 for dot in dots] == [True, True, False, False]
    seed, other, mean, next_mean = at
    assert mean - seed == pytest.approx(other - mean, abs=0.02) and next_mean - mean == pytest.approx(
        2 * (mean - seed), abs=0.02
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_files_are_written_and_reproduced(tmp_path: Path, kind: str) -> None:
    one, other = tmp_path / f"one.{kind}", tmp_path / f"other.{kind}"
    save_figure(one, CHARTS[0], FOREST)
    save_figure(other, CHARTS[0], FOREST)
    content = one.read_bytes()
    assert content == other.read_bytes()
    if kind == "png":
        with Image.open(one) as picture:
            assert picture.width > 1000 and picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    elif kind == "pdf":
        assert content.startswith(b"%PDF-") and b"/FontFile2" in content and b"CreationDate" not in content
    else:
        root = ElementTree.fromstring(content)
        ground = next(root.iter(f"{SVG}path"))
        assert ground.get("fill") == "#ffffff", "readable wherever it is shown"


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"figure format 'jpg'.*svg or pdf or png"):
        save_figure(tmp_path / "a.jpg", HEAT)


def test_settings_of_the_user_neither_matter_nor_change() -> None:
    expected = inline(CHARTS[0])
    with matplotlib.rc_context({"font.size": 31, "lines.marker": "s", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        figures._inline.cache_clear()
        assert inline(CHARTS[0]) == expected
        assert dict(matplotlib.rcParams) == before


def test_what_has_not_changed_is_plotted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def plot(*values: float, title: str = "once") -> Plot:
        return Plot(title, "x", "y", [Series("s", np.arange(2000.0), [*values, *[1.0] * 1998])])

    figures._inline.cache_clear()
    plotted: list[int] = []
    really = drawing.written
    monkeypatch.setattr(drawing, "written", lambda *asked: plotted.append(1) or really(*asked))
    first = inline(plot(1.0, 2.0))
    assert inline(plot(1.0, 2.0)) is first and len(plotted) == 1
    others = [inline(plot(1.0, 2.5)), inline(plot(1.0, 2.0, title="other")), inline(plot(1.0, 2.0), FOREST)]
    assert len(plotted) == 4 and len({first, *others}) == 4


def test_matplotlib_is_loaded_with_the_first_figure_and_pyplot_never() -> None:
    code = (
        "import sys\n"
        "from open_ldm.pages.figures import Plot, line_plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "line_plot(Plot('t', 'x', 'y', []))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_only_pages_knows_matplotlib() -> None:
    source = Path(open_ldm.__file__).parent
    knows = {
        path.parent.name for path in source.rglob("*.py") if re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.M)
    }
    assert knows == {"pages"}
