"""A run without Chromium says what it left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_without_chromium_ends_with_a_line_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.without_browser import pytest_collection_modifyitems, pytest_unconfigure  # noqa: F401\n"
    )
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n@pytest.mark.browser\ndef test_page():\n    assert False\n\ndef test_other():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "", "-c", str(ROOT / "pyproject.toml")]
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), *sys.path)))}
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, counted, last = done.stdout.splitlines()
    assert "1 passed, 1 skipped" in counted
    assert last == "1 browser tests were skipped: none of chromium, chromium-browser, google-chrome is installed"
