"""`ldm study`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.studies.catalogue import STUDIES
from tests.cli.test_cli import ldm


def test_the_list_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ldm(capsys, "study", "list")
    assert code == 0 and all(name in out for name in STUDIES)
    assert ldm(capsys, "study") == (0, out, "")
    _, out, _ = ldm(capsys, "study", "list", "--json")
    assert set(json.loads(out)["studies"]) == set(STUDIES)


@pytest.mark.parametrize(
    "given",
    [
        ("--only", "x"),
        ("training.samples=2",),
        ("--scale", "small"),
        ("--seeds", "3"),
        ("--devices", "cpu"),
        ("--dry-run",),
        ("--format", "pdf"),
        ("--out", "here"),
    ],
)
def test_the_list_takes_nothing_else(capsys: pytest.CaptureFixture[str], given: tuple[str, ...]) -> None:
    code, out, err = ldm(capsys, "study", "list", *given)
    assert (code, out) == (2, "") and err.startswith(f"error: {' '.join(given)} has no effect on the list of studies; fix: ")


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_devices_must_be_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr("open_ldm.studies.cost.cost_of", lambda *_: pytest.fail("counted before it was refused"))
    monkeypatch.setattr("open_ldm.studies.run.Runner.run", lambda _: pytest.fail("trained before it was refused"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    code, _, err = ldm(capsys, "study", "text-padding", "--devices", "cpu,0,1", *more, "--out", tmp_path)
    assert code == 2 and "--devices: there is no device 1; needed: 0 to 0; fix: " in err
    assert not list(tmp_path.iterdir())


@pytest.mark.charts
def test_a_study_of_figures_needs_no_training(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, _ = ldm(capsys, "study", "gate-curves", "--out", tmp_path)
    page = (tmp_path / "study.html").read_text()
    assert code == 0 and "<svg" in page and "alpha = 8" in page
    assert {each.name for each in tmp_path.iterdir()} == {"study.html", "study.json", "study.md"}
    code, _, _ = ldm(capsys, "study", "gate-curves", "--out", tmp_path, "--format", "pdf")
    assert code == 0 and (tmp_path / "figure-gates.pdf").read_bytes().startswith(b"%PDF")
    assert "--format pdf" in json.loads((tmp_path / "study.json").read_text())["command"]


def test_what_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for given in (["tex-padding"], ["text-padding", "--scale", "huge"], ["text-padding", "--only", "zeros"]):
        code, _, err = ldm(capsys, "study", *given, "--out", tmp_path)
        assert code == 2 and len(err.splitlines()) == 1 and "needed:" in err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = ldm(
        capsys, "study", "token-influence", "data.source.length=100", "--dry-run", "--only", "zero", "--out", tmp_path, "--json"
    )
    (arm,) = json.loads(out)["arms"]
    assert code == 0 and arm["samples"] == 4800 and arm["flops"] > 0 and not list(tmp_path.iterdir())
