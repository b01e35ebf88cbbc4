"""A made-up run, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_folder.fake import make_run


@pytest.fixture(scope="session")
def fake_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; copy it first."""
    return make_run(tmp_path_factory.mktemp("runs") / "shapes-text-improved")
