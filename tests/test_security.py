"""What SECURITY.md and docs/reliability.md say is tested, is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGES = ("SECURITY.md", "docs/reliability.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / page).read_text(encoding="utf-8"))
    assert len(named) >= 4
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in text, f"{page} names {file}::{function}"


def test_every_threat_has_a_test() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 8 and all("::test_" in row for row in rows[1:])


def test_the_lowest_versions_are_those_that_the_page_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["data"]]
    lowest = {each.name: each.specifier for each in map(Requirement, lines)}
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name, called in {"torch": "torch", "pillow": "Pillow", "pyarrow": "pyarrow", "datasets": "datasets"}.items():
        (version,) = re.findall(rf"{called} ([\d.]+\d|\d+) \(", text)
        assert str(lowest[name]) == f">={version}", name
