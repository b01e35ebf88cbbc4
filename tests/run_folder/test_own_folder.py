"""Commands that fill a folder of their own refuse that of a training, and what belongs to somebody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.run_folder.own_folder import require_own_folder
from tests.cli.conftest import ldm
from tests.runs.tiny import tiny_recipe

STUDY = ("study", "size-grid", "--scale", "tiny")
DEMO = ("demo",)


def speedrun(folder: Path) -> tuple[object, ...]:
    return ("speedrun", tiny_recipe(folder), "--points", 4, "--pictures", 80)


def held(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_folder_is_nobody_elses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    (run / "config.yaml").write_text("name: mine\n")
    for words in (STUDY, DEMO, speedrun(tmp_path), ("encode", tiny_recipe(tmp_path), "data.views=1")):
        code, _, err = ldm(capsys, *words, "--out", run)
        assert code == 2 and f"{run} is the folder of a training run; needed: a folder of its own for the " in err, err
        assert err.endswith("fix: choose another --out\n") and held(run) == {"config.yaml"}


def test_results_of_something_else_do_not_go_into_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run, other = tmp_path / "mine", tmp_path / "mine-2"
    for folder in (run, other):
        folder.mkdir()
        (folder / "config.yaml").touch()
    for given in (other, tmp_path / "pictures"):
        code, _, err = ldm(capsys, "evaluate", given, "--out", run)
        assert code == 2 and f"--out {run} is the folder of another run than {given}" in err and held(run) == {"config.yaml"}
    _, _, err = ldm(capsys, "evaluate", run / "checkpoints" / f"samples-{8:012d}", "--out", run)
    assert "another run" not in err


def test_what_is_not_empty_is_taken_only_where_it_was_begun(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "notes.txt").touch()
    for words, what in ((STUDY, "study"), (DEMO, "demo"), (speedrun(tmp_path), "speedrun")):
        code, _, err = ldm(capsys, *words, "--out", folder)
        assert code == 2 and f"{folder} is not empty and holds no {what}" in err and held(folder) == {"notes.txt"}
    require_own_folder(folder, "study", ("notes.txt",))
    (folder / "config.yaml").touch()
    require_own_folder(folder, "demo", ("notes.txt",))  # as runs/demo is, where both were begun before this was refused
    with pytest.raises(ConfigError, match="is a file"):
        require_own_folder(folder / "notes.txt", "study", ())
    for name in ("new", "empty"):
        require_own_folder(tmp_path / name, "study", ())
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "empty" / ".DS_Store").touch()


def test_another_study_is_not_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, scale in (("text-padding", "tiny"), ("size-grid", "small")):
        (tmp_path / "study.json").write_text(json.dumps({"study": name, "scale": scale}))
        code, _, err = ldm(capsys, *STUDY, "--out", tmp_path)
        assert code == 2 and f"{tmp_path} holds study {name} at scale {scale}" in err and held(tmp_path) == {"study.json"}
