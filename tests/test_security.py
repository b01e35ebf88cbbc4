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


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the table under a heading of SECURITY.md, without its head."""
    part = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")][1:]


def test_every_threat_has_a_test() -> None:
    rows = rows_of("Threats")
    assert len(rows) >= 8 and all("::test_" in row[-1] for row in rows)


def test_the_lowest_versions_are_those_that_the_page_names_with_their_advisories() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = ("text", "autoencoders", "data", "studio", "remote")
    extras = [line for extra in groups for line in project["optional-dependencies"][extra]]
    lowest = {each.name: str(each.specifier) for each in map(Requirement, [*project["dependencies"], *extras])}
    rows = rows_of("Dependencies")
    for row in rows:
        if row[0].startswith("("):  # what another package brings, without a lowest version of ours
            assert re.search(r"CVE-20\d\d-\d{4,}", row[1]), row[0]
            continue
        name, version = row[0].lower().split()
        assert lowest[name] == f">={version}", name
        assert name == "datasets" or re.search(r"CVE-20\d\d-\d{4,}", row[1]), name
    assert len(rows) >= 12
