"""No test sees the folder from which the suite is started, nor writes into it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.started import Started

CHOSEN = "another_kind or readme_command or bad_pictures or (mistakes and demo)"
"""Of the command line's tests, one that names a packaged recipe, two that train, and mistakes with a recipe named demo and no
--out, whose run folder would be the caller's."""
BEGUN = ROOT / "tests" / "runs" / "begun_before" / "mmdit-pixels" / "run"


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of last change of every file."""
    facts = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): (fact.st_size, fact.st_mtime_ns) for path, fact in facts.items()}


@pytest.mark.timeout(600)
def test_the_command_lines_tests_pass_beside_a_finished_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = tmp_path / "caller"
    for run in ("demo", "demo/improved"):
        shutil.copytree(BEGUN, caller / "runs" / run)
    assert (caller / "runs" / "demo" / "config.yaml").is_file()
    before = content(caller)
    alone = ["-k", CHOSEN, "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner")]
    monkeypatch.chdir(caller)
    more = {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis")}
    process = Started("pytest", [str(ROOT / "tests" / "cli" / "test_cli.py"), *alone], more)
    said, _ = process.communicate(timeout=550)
    assert process.returncode == 0, said[-3000:].decode()
    assert content(caller) == before
