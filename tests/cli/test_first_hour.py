"""What people meet in their first hour: wrong words, wrong places, slow starts, and the tab key."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import typer

import open_ldm
from open_ldm.cli.completion import complete_recipe, complete_run, complete_setting
from open_ldm.cli.main import app
from open_ldm.core.errors import ConfigError, DiskError
from open_ldm.core.files import require_writable
from open_ldm.core.habits import HABITS, meant_by
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.runs.recipe import load_recipe, recipe_from
from open_ldm.runs.train import train
from open_ldm.studio.api import request_of
from tests.cli.conftest import ldm
from tests.runs.tiny import TINY, tiny_recipe


def verbs(command: Any = None, named: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of `ldm`, by the words that name it."""
    command = typer.main.get_command(app) if command is None else command
    for name, inside in getattr(command, "commands", {}).items():
        if name == "RUN|FOLDER":
            continue
        if hasattr(inside, "commands"):
            yield from verbs(inside, (*named, name))
        else:
            yield (*named, name)


@pytest.mark.parametrize("verb", list(verbs()), ids=" ".join)
def test_a_wrong_option_of_any_verb_points_to_its_help(capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]) -> None:
    code, _, err = ldm(capsys, *verb, "--no-such-thing")
    assert code == 2 and len(err.splitlines()) == 1
    assert f"see ldm {' '.join(verb)} --help" in err


def test_words_of_other_trainers_are_answered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    for word, said in (
        ("lr=1e-4", "did you mean training.optimizer.learning_rate=...?"),
        ("epochs=10", "did you mean training.samples=... (a number of pictures)?"),
        ("batch_size=8", "did you mean training.batch_size=...?"),
        ("wandb=true", "did you mean track=[wandb]?"),
        ("resume=true", "did you mean the same command again, which goes on by itself?"),
        ("resume", "did you mean the same command again"),
        ("--lr", "did you mean training.optimizer.learning_rate=...?"),
        ("--batch-size", "did you mean training.batch_size=...?"),
        ("--resume", "did you mean the same command again"),
        ("--wandb", "did you mean track=[wandb]?"),
    ):
        code, _, err = ldm(capsys, "train", recipe, word)
        assert code == 2 and said in err and len(err.splitlines()) == 1, (word, err)
    code, _, err = ldm(capsys, "sample", tmp_path, "--gpus", 2)
    assert code == 2 and "did you mean ldm train --gpus N" in err and "see ldm sample --help" in err
    assert meant_by("magnification", lambda _: True) == ""


def test_the_name_of_a_deeper_setting_is_answered_by_its_path(tmp_path: Path) -> None:
    recipe = str(tiny_recipe(tmp_path))
    for word, said in (
        ("split=train", "unknown key 'split'; did you mean data.source.split?"),
        ("data.split=train", "unknown key 'data.split'; did you mean data.source.split?"),
        ("flip=0.5", "unknown key 'flip'; did you mean data.transform.flip?"),
        ("denoiser.groups=4", "unknown key 'denoiser.groups'; needed: one of "),  # of another kind, which stands there itself
        ("kind=dit", "unknown key 'kind'; needed: one of "),  # too many have it
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            load_recipe(recipe, [word])


def test_a_mistyped_folder_is_told_of_folders_and_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cells", "runs/mine", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").touch()
    (tmp_path / "cell.txt").touch()
    kinds = "needed: a folder of pictures, a YAML file, a run folder or a packaged recipe"
    for verb in (("data", "survey"), ("train",)):
        code, _, err = ldm(capsys, *verb, "cell")
        assert code == 2 and f"there is no folder, file or recipe 'cell'; {kinds}; fix: did you mean cells?" in err
        code, _, err = ldm(capsys, *verb, "nope")
        assert code == 2 and f"there is no folder, file or recipe 'nope'; {kinds}: one that `ldm recipes` lists" in err
        code, _, err = ldm(capsys, *verb, "dem")
        assert code == 2 and "did you mean 'demo'?" in err
    with pytest.raises(ConfigError, match=r"needed: a folder of pictures.*did you mean runs/mine"):
        open_ldm.survey("runs/mime")
    code, _, err = ldm(capsys, "plan", "runs/min")
    assert code == 2 and "there is no recipe 'runs/min'; needed: a YAML file" in err and "did you mean runs/mine?" in err
    code, _, err = ldm(capsys, "plan", "cell")
    assert code == 2 and "did you mean cells" not in err, "it holds pictures, which are no recipe"


@pytest.mark.parametrize("verb", [*verbs(), ("evaluate",)], ids=" ".join)
def test_no_verb_takes_a_setting_twice(capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for word in verb:
        command = command.commands[word]  # type: ignore[attr-defined]
    command = getattr(command, "commands", {}).get("RUN|FOLDER", command)
    for parameter in command.params:
        if parameter.metavar is None or "=VALUE" not in parameter.metavar:
            continue
        option = () if parameter.param_type_name == "argument" else (parameter.opts[0],)
        before = sum(one.param_type_name == "argument" for one in command.params) - (0 if option else 1)
        words = (*verb, *(["x"] * (before if not option else before - 1)))
        code, _, err = ldm(capsys, *words, *option, "a.b=1", *option, "c=1", *option, "a.b=2")
        assert code == 2 and len(err.splitlines()) == 1, err
        assert err.startswith("error: a.b=1 and a.b=2 were both given") and "needed: one of them" in err


def test_a_setting_may_be_said_again_and_refined(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("train", tiny_recipe(tmp_path), "--dry-run", "--out", tmp_path / "run")
    again = ("training.samples=64", "data.transform={size_px: 16, flip: 0.5}", "training.samples=64", "data.transform.flip=0.2")
    assert ldm(capsys, *words, *again)[0] == 0
    code, _, err = ldm(capsys, *words, "data.transform.flip=0.2", "data.transform={size_px: 16}")
    assert code == 2 and "data.transform.flip=0.2 and data.transform={size_px: 16} were both given" in err


def test_only_what_the_place_takes_is_offered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command, meant in (
        (("sample", tmp_path, "--lr", 1), ""),
        (("sample", tmp_path, "--wandb"), ""),
        (("sample", tmp_path, "--cfg-scale", 3), "--semantic-scale"),
        (("sample", tmp_path, "--output-dir", "x"), "--out FOLDER"),
        (("autoencoder", "train", "photos-autoencoder", "--cfg-scale", 3), ""),
        (("autoencoder", "train", "photos-autoencoder", "--lr", 3), "training.optimizer.learning_rate=..."),
        (("evaluate", tmp_path, "resume"), ""),
        (("evaluate", tmp_path, "lr=1"), ""),
        (("plan", "demo", "--bs", 2), "training.batch_size=..."),
    ):
        code, _, err = ldm(capsys, *command)
        assert code == 2 and len(err.splitlines()) == 1, err
        assert f"did you mean {meant}?" in err if meant else "did you mean training" not in err and "same command" not in err, (
            err
        )
    with pytest.raises(ConfigError, match=r"unknown key 'batch_size'; needed: ((?!training).)*$"):
        request_of(b'{"model": "a", "batch_size": 3}')


def test_what_is_answered_is_there() -> None:
    whole = recipe_from(TINY, (), source="recipe").model_dump(mode="json")
    whole["data"]["source"]["path"] = None  # of every kind of source but the drawings
    for setting in set(HABITS.values()):
        node = whole
        for name in setting.split("."):
            assert name in node, setting
            node = node[name]
    with pytest.raises(ConfigError, match=r"unknown key 'training\.lr'; needed: "):  # inside, its neighbours are named
        recipe_from(TINY, ["training.lr=1"], source="recipe")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = ldm(capsys, "sample", tmp_path / "no run at all", "--out", tmp_path / "file" / "pictures")
    assert code in (74, 77) and "cannot write to" in err and "choose another --out" in err
    with pytest.raises(DiskError):
        require_writable(tmp_path / "file" / "a" / "b")
    require_writable(tmp_path / "a" / "b")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_dry_run_of_what_cannot_train_here_is_no_success(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    absent = ["data.source={kind: folder, path: /not/here}", "conditioning.semantic={kind: class}"]
    command = ["train", tiny_recipe(tmp_path), "--dry-run"]
    code, out, err = ldm(capsys, *command, *absent)
    assert code == 65 and "# model: " in out and "/not/here" in err and "--elsewhere" in err
    assert ldm(capsys, *command, *absent, "--elsewhere")[0] == 0
    code, out, err = ldm(capsys, *command, "training.device=mps")
    assert code == 65 and "device mps is not available" in err
    assert ldm(capsys, *command)[0] == 0


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(tiny_recipe(tmp_path)), ["data.source={kind: folder, path: /not/here}"])
    with pytest.raises(ConfigError):
        train(recipe, tmp_path / "runs" / "new", silent=True)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError):
        train(recipe, tmp_path / "mine", silent=True)
    assert (tmp_path / "mine" / "exit.json").is_file(), "a folder that was there stays, and says why"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with pytest.raises(ConfigError):
        train(recipe, tmp_path / "job", silent=True)
    assert (tmp_path / "job" / "exit.json").is_file(), "a scheduler reads it"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_slow_start_says_what_it_waits_for() -> None:
    def told(seconds: float, *, silent: bool = False, terminal: bool = True) -> str:
        heard = seconds < 1 and terminal and not silent

        def slow(number: int) -> int:
            until = time.monotonic() + 60
            while heard and not said.getvalue() and time.monotonic() < until:
                time.sleep(0.01)
            return number

        with redirect_stderr(Terminal() if terminal else io.StringIO()) as said:
            assert SlowSteps(silent=silent, seconds=seconds)("reading 236 pictures", slow, 3) == 3
        return said.getvalue()

    assert told(0.01) == "reading 236 pictures ...\n"
    assert told(100) == told(0.01, silent=True) == told(0.01, terminal=False) == ""
    lines: list[str] = []
    until = time.monotonic() + 60

    def paused() -> None:
        while not lines and time.monotonic() < until:
            time.sleep(0.01)

    with redirect_stderr(Terminal()) as said:
        SlowSteps(seconds=0.01, say=lines.append)("a pause", paused)
    assert lines == ["a pause ..."] and not said.getvalue()


def test_the_tab_key_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a/config.yaml", "runs/ab/config.yaml", "runs/old/b/config.yaml", "mine.yaml", ".hidden/config.yaml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
    assert complete_run("") == ["runs/a", "runs/ab", "runs/", "runs/old/"], complete_run("")
    assert complete_run("runs/a") == ["runs/a", "runs/ab"] and complete_run("runs/old/") == ["runs/old/b"]
    assert complete_recipe("mi") == ["mine.yaml"] and "emoji-text" in complete_recipe("emo")
    assert complete_setting("training.optimizer.l") == ["training.optimizer.learning_rate="]
    assert "denoiser.kind=" in complete_setting("den") and complete_setting("denoiser.kind=") == []


def test_the_shell_is_answered_without_torch(tmp_path: Path) -> None:
    asked = {"_LDM_COMPLETE": "complete_bash", "COMP_WORDS": "ldm train demo track", "COMP_CWORD": "3"}
    program = "import sys; from open_ldm.cli.main import main\ntry: main([])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["track="], done.stderr
