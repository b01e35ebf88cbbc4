"""When the page of a run is written anew while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from open_ldm.run_folder.report.page import write_report
from open_ldm.runs import recorder
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.runs.tiny import tiny_recipe


@pytest.mark.parametrize(("seconds", "written"), [(0.0, 4), (1e9, 1)])
def test_a_page_is_written_with_checkpoints_but_not_too_often_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, written: int
) -> None:
    pages: list[Path] = []

    def counted(run: Path, *given: Any) -> Path:
        pages.append(write_report(run, *given))
        return pages[-1]

    monkeypatch.setattr(recorder, "_REPORT_EVERY_SECONDS", seconds)
    monkeypatch.setattr(recorder, "write_report", counted)
    overrides = ["training.samples=12", "training.checkpoint_every_samples=4", "training.preview_every_samples=0"]
    assert train(load_recipe(str(tiny_recipe(tmp_path)), overrides), tmp_path / "run", silent=True).code == 0
    assert len(pages) == written
