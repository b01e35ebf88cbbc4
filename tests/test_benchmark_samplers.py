"""benchmarks/samplers.py measures every row by turns, writes them, and chooses one. No timing is judged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import open_ldm as ldm
from tests.runs.tiny import TINY

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = "{kind: random, network: {size_px: 8, width: 8, dim: 2}}"


@pytest.fixture
def samplers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/samplers.py with a few pictures, two rounds, and a reference of two steps."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import samplers as found

    for name, value in {"TIMED_PICTURES": 2, "ROUNDS": 2, "REFERENCE": ("ddim", 2)}.items():
        monkeypatch.setattr(found, name, value)
    yield found
    for name in ("samplers", "figures"):
        sys.modules.pop(name, None)


def test_the_samplers_benchmark_measures_each_row_and_chooses_one(
    samplers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ldm.train(TINY, {"training.samples": 4}, out=tmp_path / "run", progress=False)
    capsys.readouterr()
    file = tmp_path / "samplers.json"
    settings = ["--solvers", "ddim", "heun", "--steps", "2", "--interval", "0.2", "0.8", "--semantic-scale", "2"]
    samplers.main([str(run.path), *settings, "--pictures", "10", "--extractor", SMALL, "--json", str(file)])

    content = json.loads(file.read_text())
    assert content["run"] == run.recipe.name and content["pictures"] == 10
    rows = content["rows"]
    assert [(row["solver"], row["steps"], row["interval"], row["evaluations"]) for row in rows] == [
        ("ddim", 2, None, 2),
        ("ddim", 2, [0.2, 0.8], 2),
        ("heun", 2, None, 4),
        ("heun", 2, [0.2, 0.8], 4),
    ]
    for row in rows:
        assert row["low"] <= row["fid"] <= row["high"] and len(row["rounds"]) == 2
        assert min(row["rounds"]) <= row["seconds"] <= max(row["rounds"])
    assert len({row["fid"] for row in rows}) > 1  # the settings reach the sampling
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:2]] == ["ddim, 2 steps", "ddim, 2 steps, guided in 0.2 to 0.8"]
    assert len([line for line in printed if line.startswith("| **")]) == 1 and len(printed) == 4 + 2 + 4


def test_the_chosen_row_is_the_quickest_that_is_not_worse_than_the_reference(samplers: ModuleType) -> None:
    def row(steps: int, low: float, high: float, seconds: float) -> samplers.Row:  # type: ignore[name-defined]
        return samplers.Row("ddim", steps, None, steps, fid=(low + high) / 2, low=low, high=high, seconds=seconds)

    rows = [row(50, 4, 6, 8.0), row(25, 3.5, 5.5, 4.0), row(12, 4, 6, 2.0), row(8, 4.1, 6.1, 1.5), row(6, 1, 9, 1.0)]
    assert samplers.chosen(rows) is rows[2]  # a wide interval is no sign of equality
    assert [line for line in samplers.table(rows).splitlines() if "**" in line] == [
        "| **ddim, 12 steps** | 5 [4, 6] | 2.00 | 0.25 |"
    ]
