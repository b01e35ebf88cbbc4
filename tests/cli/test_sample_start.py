"""`ldm sample --start FILE --strength T`, and `ldm studio` with nothing to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import ldm


def test_a_picture_is_started_from_and_written_down(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(file)
    given = ("sample", text_run, "--prompt", "a red circle", "--count", 1, "--start", file)
    code, _, err = ldm(capsys, *given, "--strength", 0.02, "--out", tmp_path / "out")
    assert code == 0, err
    told = json.loads((tmp_path / "out" / "samples.json").read_text())["start"]
    assert told["file"] == "own.png" and told["strength"] == 0.02 and len(told["sha256"]) == 64
    red, green, blue = Image.open(tmp_path / "out" / "00000.png").convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert red > green + 80 and red > blue + 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strength", 0.5), "--start"),
        (("--start", "none.png"), "none.png"),
        (("--start", "none.png", "--npz"), "--npz"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    text_run: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], said: str
) -> None:
    code, _, err = ldm(capsys, "sample", text_run, *arguments)
    assert code in (2, 65) and said in err and err.count("\n") == 1


def test_a_file_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html").write_text("")
    code, _, err = ldm(capsys, "sample", tmp_path / "report.html", "--count", 1)
    assert code == 2 and "report.html is no run folder" in err and "--out" not in err


def test_the_studio_says_what_to_run_where_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_ldm.studio.serve.demo_models", list)
    code, _, err = ldm(capsys, "studio")
    assert code == 2 and "ldm demo" in err and err.count("\n") == 1
    code, _, err = ldm(capsys, "studio", tmp_path / "none")
    assert code == 2 and "no run folder" in err
    code, _, err = ldm(capsys, "studio", tmp_path, "--device", "tpu")
    assert code == 2 and "tpu" in err
