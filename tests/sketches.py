"""Charts of pages as their words alone, for trainings of which no test looks at a curve.

matplotlib takes three quarters of a tiny training to draw what its page shows, and a chart that cannot be drawn never ends a
run. So charts are drawn only for the tests of pages themselves (`DRAWN`) and for those marked `charts`; elsewhere a page has,
in the place of each, an `<svg>` with the titles and names that the chart would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from markupsafe import Markup

from open_ldm.pages import content, figures
from open_ldm.pages.charts import Chart, Forest, HeatMap, Plot

DRAWN = ("pages", "run_folder", "studio")
"""Folders of tests whose charts are drawn."""


def sketch(*charts: Chart) -> Markup:
    """What stands in a page in the place of `figures.inline(*charts)`."""
    words = Markup("").join(Markup("<title>{}</title>").format(word) for chart in charts for word in words_of(chart))
    return Markup('<svg class="plot" role="img">{}</svg>').format(words)


def words_of(chart: Chart) -> list[str]:
    """Title, axes, names and marks of a chart."""
    match chart:
        case Plot():
            names = [*(series.name for series in chart.series), *(mark.text for mark in chart.marks)]
            return [chart.title, chart.x_title, chart.y_title, *names]
        case HeatMap():
            return [chart.title, *chart.axes]
        case Forest():
            return [chart.title, *(row.name for row in chart.rows)]


def sketching() -> bool:
    """Whether this process sketches."""
    return content.inline is sketch


def start_sketching() -> None:
    """From now on, in this process."""
    content.inline = sketch


@pytest.fixture(scope="module", autouse=True)
def _sketched(request: pytest.FixtureRequest) -> Iterator[None]:
    """What modules train is sketched, unless they are about pages."""
    inside = Path(request.path).relative_to(Path(__file__).parent).parts[0]
    with pytest.MonkeyPatch.context() as patch:
        if inside not in DRAWN and request.node.get_closest_marker("charts") is None:
            patch.setattr(content, "inline", sketch)
        yield


@pytest.fixture(autouse=True)
def _drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single test that is marked."""
    if request.node.get_closest_marker("charts") is not None:
        monkeypatch.setattr(content, "inline", figures.inline)
