"""A published Space in headless Chromium: its one page samples at both widths, in light and dark, and asks nobody else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from open_ldm.commands.publish.space import publish_space
from open_ldm.runs.load import load_run
from open_ldm.studio.models import demo_models
from tests.browser import Browser, browser, find_chromium
from tests.commands.test_publish import started

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
BUTTON = "[...document.querySelectorAll('button')].find(one => one.textContent.trim() === 'Sample' && one.offsetParent)"
PICTURES = "[...document.querySelectorAll('img.ldm-sample')].filter(one => one.offsetParent && one.naturalWidth)"


def wait(tab: Browser, expression: str) -> None:
    limit = time.monotonic() + 120
    while not tab.evaluate(f"!!({expression})"):
        assert time.monotonic() < limit, f"this did not come: {expression}"
        time.sleep(0.1)


def test_its_page_samples_and_shows_nothing_to_choose_where_there_is_no_choice(tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    model = demo_models()[1]
    title = load_run(model, "cpu").recipe.name
    space = publish_space(model, tmp_path / "space")
    with started(space, tmp_path / "before") as address, browser(program, tmp_path / "profile") as tab:
        for width, theme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            tab.open("about:blank", width)  # what the page before was still asking for is not counted
            opened = tab.open(address, width, theme=theme)
            wait(tab, BUTTON)
            tab.evaluate(f"({BUTTON}).click()")
            wait(tab, f"{PICTURES}.length === 4")
            seen = tab.evaluate("document.body.innerText")
            assert seen.startswith(title) and f"{title}, " in seen and "Prompt" in seen
            assert "Play" not in seen and "Model\n" not in seen
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
            assert not [each for each in opened.requests if not each.startswith((address, "blob:"))]
            assert not opened.errors
