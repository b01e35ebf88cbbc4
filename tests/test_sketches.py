"""What stands in for charts, where it does and where not; and that the files which begin first exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.pages import content, figures
from open_ldm.pages.charts import Mark, Plot, Series
from tests.longest_first import LONGEST
from tests.sketches import sketching


def test_a_test_that_is_not_marked_sketches_the_words_of_a_chart() -> None:
    assert sketching()
    plot = Plot("a < b", "x", "y", [Series("curve", [0, 1], [0, 1])], [Mark(0.5, "half")])
    made = content.figure(plot)
    assert made.wide == made.narrow and made.wide.startswith("<svg")
    assert all(f"<title>{word}</title>" in made.wide for word in ("a &lt; b", "x", "y", "curve", "half"))


@pytest.mark.charts
def test_a_marked_one_draws() -> None:
    assert content.inline is figures.inline and not sketching()


def test_the_files_that_begin_first_exist_and_do(request: pytest.FixtureRequest) -> None:
    tests = Path(__file__).parent
    assert all((tests / name).is_file() for name in LONGEST)
    files = list(dict.fromkeys(item.path.relative_to(tests).as_posix() for item in request.session.items))
    first = [name for name in LONGEST if name in files]
    assert files[: len(first)] == first
