"""Charts as one matplotlib figure, under the project's settings, and the figure as a file."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from open_ldm.pages import charts
from open_ldm.pages.colours import INK
from open_ldm.pages.line_axes import draw_plot
from open_ldm.pages.panel import LEGEND_PX, PX_IN_INCH, Panel, Ruler, legend_of
from open_ldm.pages.study_axes import draw_forest, draw_heat_map, size_of_forest, size_of_heat_map

STYLE = Path(__file__).with_name("open_ldm.mplstyle")
_INKED = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK)
_LOCK = threading.Lock()


@contextmanager
def drawn(shown: Sequence[charts.Chart], *, on_paper: bool) -> Iterator[Figure]:
    """The figures, one above the other; inside, matplotlib has the project's settings, and afterwards those of before.

    Args:
        shown: at least one figure.
        on_paper: fills the ground with the colour of paper; otherwise there is none.
    """
    with _LOCK, matplotlib.style.context([STYLE, _INKED], after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a page has fonts that this machine lacks
        ruler = Ruler()
        sizes = [_size(one, ruler) for one in shown]
        width, height = max(width for width, _ in sizes), sum(height for _, height in sizes)
        figure = Figure(figsize=(width / PX_IN_INCH, height / PX_IN_INCH), frameon=on_paper)
        FigureCanvasAgg(figure)
        top = height
        for one, (its_width, its_height) in zip(shown, sizes, strict=True):
            top -= its_height
            _fill(Panel(figure, ruler, top, its_width, its_height), one)
        yield figure


def written(figure: Figure, kind: charts.Format) -> bytes:
    """A figure from inside `drawn` as a file, with no date in it."""
    undated: dict[charts.Format, dict[str, Any]] = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=undated[kind])
    return buffer.getvalue()


def _size(one: charts.Chart, ruler: Ruler) -> tuple[float, float]:
    """Width and height in px."""
    match one:
        case charts.Plot():
            _, legend = legend_of(ruler, [series.name for series in one.series], one.width)
            return one.width, one.height + max(0.0, legend - LEGEND_PX)
        case charts.HeatMap():
            return size_of_heat_map(one, ruler)
        case charts.Forest():
            return size_of_forest(one, ruler)


def _fill(panel: Panel, one: charts.Chart) -> None:
    match one:
        case charts.Plot():
            draw_plot(panel, one)
        case charts.HeatMap():
            draw_heat_map(panel, one)
        case charts.Forest():
            draw_forest(panel, one)
