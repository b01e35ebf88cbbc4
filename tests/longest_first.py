"""Files of tests that take long begin first, so that none of them is left for the end, where one core would wait for it.

pytest-xdist by itself begins with the files that have most tests, and the longest have few.
"""

from __future__ import annotations

from pathlib import Path

import pytest

LONGEST = (
    "commands/test_demo_quick.py",
    "commands/test_encode.py",
    "commands/test_demo.py",
    "runs/test_resume.py",
    "cli/test_cli.py",
    "runs/test_starting.py",
    "test_own_folder.py",
    "test_examples.py",
    "commands/test_export.py",
    "runs/test_stages.py",
    "runs/test_ranks.py",
    "training/test_shards.py",
    "test_portability.py",
    "studies/test_run.py",
    "commands/test_plan.py",
    "runs/test_recipe_schema.py",
    "sources/test_real_data.py",
    "tracking/test_trackers.py",
    "studies/test_declared.py",
    "runs/test_held_out.py",
)
"""Below tests/, each longer than about 15 s of one core."""


def pytest_configure(config: pytest.Config) -> None:
    """Files are handed out in the order in which they were collected."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they are."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
