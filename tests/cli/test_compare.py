"""`ldm compare`: values side by side only where they were measured alike."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.evaluation.stored import store, stored_results
from tests.cli.conftest import ldm

FILES = ("report.html", "config.yaml", "evaluation.json")
ALIKE = {"metric": "kid", "n": "100", "extractor.name": "random"}


def result(value: float, reach: float = 0.1, name: str = "kid", **changes: str) -> Result:
    return Result(Estimate(name, value, value - reach, value + reach, 100), MeasurementProtocol({**ALIKE, **changes}))


@pytest.fixture
def runs(text_run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same run twice, under the names of one folder in two."""
    pair = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for each in pair:
        shutil.copytree(text_run, each, ignore=shutil.ignore_patterns("evaluation.json"))
    return pair


def compared(capsys: Any, *arguments: object) -> dict[str, Any]:
    code, out, _ = ldm(capsys, "compare", *arguments, "--json")
    assert code == 0
    return dict(json.loads(out))


def test_values_of_one_protocol_stand_side_by_side_and_clear_differences_are_marked(
    runs: tuple[Path, Path], capsys: Any, tmp_path: Path
) -> None:
    one, two = runs
    store(one, [result(1.0), result(2.0, name="fid", metric="fid")], 32, {}, {})
    store(two, [result(1.05), result(3.0, name="fid", metric="fid")], 32, {}, {})
    code, out, _ = ldm(capsys, "compare", one, two, "--count", 0, "--out", tmp_path / "c.html")
    assert code == 0 and "a/run" in out and "b/run" in out and "not compared" not in out
    kid, fid = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("kid", "fid"))
    assert "1.05 [0.95, 1.15]" in kid and not kid.endswith("*")
    assert fid.endswith("3 [2.9, 3.1] *")


def test_values_of_different_protocols_are_not_compared_and_the_difference_is_named(
    runs: tuple[Path, Path], capsys: Any, tmp_path: Path
) -> None:
    one, two = runs
    store(one, [result(1.0)], 32, {}, {})
    store(two, [result(9.0, n="200")], 16, {}, {})
    found = compared(capsys, one, two, "--count", 0, "--out", tmp_path / "c.html")
    assert [[value and value["value"] for value in row["values"]] for row in found["values"]] == [[1.0, None], [None, 9.0]]
    assert found["not_compared"] == ["kid of a/run and b/run: n: 100 against 200"]
    assert found["notes"] == ["b/run was measured at 16 samples seen, before its end"]
    store(two, [result(2.0)], 32, {}, {})  # now there is a common protocol
    assert compared(capsys, one, two, "--count", 0, "--out", tmp_path / "c.html")["not_compared"] == []


def test_held_out_losses_of_different_things_are_told(runs: tuple[Path, Path], capsys: Any, tmp_path: Path) -> None:
    event = {"event": "held_out", "time": "2026-11-30T12:00:00+00:00", "samples_seen": 32, "mean": 0.5}
    for run in runs:
        with (run / "events.jsonl").open("a") as log:
            log.write(json.dumps(event) + "\n")
    assert compared(capsys, *runs, "--count", 0, "--out", tmp_path / "c.html")["not_compared"] == []
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("prediction: velocity", "prediction: x_0"))
    found = compared(capsys, *runs, "--count", 0, "--out", tmp_path / "c.html")
    (said,) = found["not_compared"]
    assert said.startswith("held-out loss in training of a/run") and said.endswith("process.prediction: velocity against x_0")


@pytest.mark.charts
def test_the_page_is_one_file_with_curves_and_pictures_of_the_same_seeds(
    runs: tuple[Path, Path], class_run: Path, capsys: Any, tmp_path: Path
) -> None:
    store(runs[0], [result(1.0, metric="<b>kid</b>")], 32, {}, {})
    found = compared(capsys, *runs, class_run, "--count", 3, "--out", tmp_path / "c.html")
    assert [run["samples_seen"] for run in found["runs"]] == [32, 32, 32]
    assert all(run["parameters"] > 1000 for run in found["runs"])
    page = (tmp_path / "c.html").read_text()
    pictures = re.findall(r"data:image/png;base64,[^\"]+", page)
    assert len(pictures) == 2 and len(set(pictures)) == 1  # two equal runs, same seeds
    assert "could not be sampled" in page and "knows no class" in page  # a class model cannot be asked for captions
    assert not re.search(r"<script|<link|src=\"(?!data:)", page) and "<b>kid" not in page
    links = re.findall(r"href=\"([^#\"]+)\"", page)
    of_class = [os.path.relpath(class_run / name, tmp_path) for name in ("report.html", "config.yaml", "evaluation.json")]
    assert set(links) >= {"a/run/report.html", "b/run/report.html", *of_class[:2], "a/run/evaluation.json"}
    assert set(links) <= {f"{name}/run/{file}" for name in "ab" for file in FILES} | set(of_class)
    assert page.index("What differs") < page.index("Values") and "conditioning.semantic.kind" in page
    assert found["differing"]["conditioning.semantic.kind"] == ["text", "text", "class"]
    assert page.count("<svg") >= 2


def test_what_differs_comes_first_and_names_the_runs(runs: tuple[Path, Path], capsys: Any, tmp_path: Path) -> None:
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.001", "learning_rate: 0.5"))
    code, out, _ = ldm(capsys, "compare", *runs, "--count", 0, "--out", tmp_path / "c.html")
    assert code == 0 and out.splitlines()[0].split() == [
        "settings",
        "that",
        "differ",
        "a/run",
        "(learning_rate=0.001)",
        "b/run",
        "(learning_rate=0.5)",
    ]
    assert out.splitlines()[1].split() == ["training.optimizer.learning_rate", "0.001", "0.5"]
    assert "a/run (learning_rate=0.001)" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["a/run"], "1 run folder was given; needed: at least two"), (["a/run", "a/run"], "the same run was given twice"),
     (["a/run", "a"], "is not a run folder")],
)  # fmt: skip
def test_what_cannot_be_compared_is_told(runs: Any, arguments: list[str], said: str, capsys: Any, tmp_path: Path) -> None:
    code, _, error = ldm(capsys, "compare", *(tmp_path / each for each in arguments), "--out", tmp_path / "c.html")
    assert code == 2 and said in error and not (tmp_path / "c.html").exists()


def test_a_page_needs_the_name_of_a_file(runs: Any, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_ldm.commands.compare_page.sample_pixels", lambda *_: pytest.fail("sampled before it was refused"))
    (tmp_path / "pages").mkdir()
    code, _, error = ldm(capsys, "compare", *runs, "--out", tmp_path / "pages")
    assert code == 2 and "pages is a folder; needed: the name of a file; fix: --out " in error
    assert error.rstrip().endswith(str(Path("pages") / "compare.html")) and not list((tmp_path / "pages").iterdir())


def test_a_damaged_evaluation_is_told_and_not_overwritten(runs: Any, capsys: Any, tmp_path: Path) -> None:
    file = store(runs[0], [result(1.0)], 32, {}, {})
    content = json.loads(file.read_text())
    assert stored_results(runs[0])[0].result == result(1.0)
    content["results"][0]["passport"]["n"] = "5000"  # a forged protocol
    for damaged in (json.dumps(content), "{}", "no json"):
        file.write_text(damaged)
        code, _, error = ldm(capsys, "compare", *runs, "--count", 0, "--out", tmp_path / "c.html")
        assert code == 2 and "measure again" in error
        with pytest.raises(Exception, match="measure again"):
            store(runs[0], [result(2.0)], 32, {}, {})
        assert file.read_text() == damaged
