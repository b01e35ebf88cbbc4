"""What pages consist of: links that move with the page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from open_ldm.pages.content import link_to


def test_a_link_is_relative_and_names_a_folder_by_its_slash(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a b").mkdir(parents=True)
    link = link_to(tmp_path / "runs" / "a b", tmp_path / "pages" / "compare.html")
    assert (link.text, link.href) == ("../runs/a b", "../runs/a%20b/")


def test_where_no_relative_path_leads_the_link_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_another_drive(*paths: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")  # as Windows does

    monkeypatch.setattr(os.path, "relpath", on_another_drive)
    link = link_to(tmp_path / "report.html", tmp_path / "compare.html", "the run")
    assert (link.text, link.href) == ("the run", (tmp_path / "report.html").as_uri())
