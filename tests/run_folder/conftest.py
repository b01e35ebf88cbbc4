"""A made-up run, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup

from open_ldm.pages.charts import Chart
from open_ldm.pages.figures import inline
from tests.run_folder.fake import make_run


@pytest.fixture(scope="session")
def fake_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; copy it first."""
    return make_run(tmp_path_factory.mktemp("runs") / "shapes-text-improved")


_DRAWN: dict[str, Markup] = {}


@pytest.fixture(autouse=True)
def _equal_figures_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests here write the page of one run, whose figures are most of the work."""

    def drawn_once(*charts: Chart) -> Markup:
        return _DRAWN[key] if (key := repr(charts)) in _DRAWN else _DRAWN.setdefault(key, inline(*charts))

    monkeypatch.setattr("open_ldm.pages.content.inline", drawn_once)
