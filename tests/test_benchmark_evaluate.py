"""The timing of an evaluation runs and adds up. No timing is judged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_report_adds_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "evaluate", raising=False)
    import evaluate

    file = tmp_path / "report.json"
    evaluate.main(["--extractor", "random", "--pictures", "96", "--size", "16", "--device", "cpu", "--json", str(file)])
    report = json.loads(file.read_text())
    assert 0 < report["extractor_seconds"] <= report["pass_seconds"]
    assert report["other_share"] == pytest.approx(1 - report["extractor_seconds"] / report["pass_seconds"])
    assert set(report["metric_seconds"]) == {"fid", "kid"}
    printed = capsys.readouterr().out
    assert "random (64 features) on cpu" in printed
    assert "other work" in printed
    sys.modules.pop("evaluate")
