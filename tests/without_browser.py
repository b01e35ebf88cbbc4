"""Tests marked `browser` need Chromium. Where it is absent they are skipped, and the last line of the run says so."""

from __future__ import annotations

import pytest

from tests.browser import NAMES, find_chromium

_LEFT_OUT = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)  # of those that are asked for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a browser that is not there."""
    wanting = [item for item in items if item.get_closest_marker("browser")] if find_chromium() is None else []
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason=reason()))
    config.stash[_LEFT_OUT] = len(wanting)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Said after pytest's own last line."""
    if count := config.stash.get(_LEFT_OUT, 0):
        print(f"{count} browser tests were skipped: {reason()}", flush=True)


def reason() -> str:
    """Why."""
    return f"none of {', '.join(NAMES)} is installed"
