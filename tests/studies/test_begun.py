"""A study goes on with the editions of the recipes that it was begun with."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from open_ldm.core.config import read_yaml
from open_ldm.studies.begun import as_study_begun
from open_ldm.studies.choice import Choice
from open_ldm.studies.cost import cost_of
from open_ldm.studies.found import StudyFound
from open_ldm.studies.run import Runner
from open_ldm.studies.speedrun import Choice as SpeedrunChoice
from open_ldm.studies.speedrun import Speedrun
from open_ldm.studies.speedrun.settings import sides_of
from open_ldm.studies.study import Arm, Protocol, Setting, Source, Start, Study
from tests.runs.editions import FIRST_RATE, SECOND_RATE, Package, package

CHANGES = ("data.source.length=80", "data.holdout={share: 0.2}", "training.samples=4", "training.checkpoint_every_samples=4")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    return package(tmp_path / "package", monkeypatch)


def study() -> Study:
    """Two arms of `tiny`, one of `twin`, and one that starts from a pre-training of `twin`."""
    protocol = Protocol(metrics=({"kind": "held_out_loss", "pictures": 4},), features=None, shown=1)
    arms = {
        "low": Arm(),
        "high": Arm(("training.optimizer.weight_decay=0.1",)),
        "other": Arm(recipe="twin"),
        "carried on": Arm(start=Start("before")),
    }
    setting = Setting("shapes", "tiny", arms, protocol, CHANGES, sources={"before": Source("twin", CHANGES)})
    return Study("small", "Arms", "nothing", "Which?", "The first.", scales={"tiny": [setting]})


def run(out: Path, *only: str) -> StudyFound:
    return Runner(study(), "tiny", out, Choice(only), silent=True).run()


def begun(out: Path, arm: str) -> tuple[int, float]:
    """Edition and learning rate of a training."""
    content = read_yaml(out / "shapes" / f"{arm}-seed0" / "config.yaml")
    return content.get("edition", 1), content["training"]["optimizer"]["learning_rate"]


def test_arms_to_come_take_the_edition_of_those_that_were_begun(
    recipes: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(out, "low")
    recipes.tune("recipes", "tiny")
    capsys.readouterr()
    found = run(out, "low", "high")
    assert begun(out, "low") == begun(out, "high") == (1, FIRST_RATE)
    note = f"note: {out} was begun under edition 1 of tiny and goes on with that; another --out takes edition 2\n"
    assert capsys.readouterr().err.count(note) == 1
    assert all(" tiny@1 " in command for command in found.settings[0].commands)  # and so they train the same elsewhere
    assert shlex.split(found.settings[0].commands[0])[2] == found.settings[0].setting.recipe == "tiny@1"

    run(tmp_path / "new", "low")
    assert begun(tmp_path / "new", "low") == (2, SECOND_RATE) and "begun under" not in capsys.readouterr().err


def test_each_recipe_has_an_edition_of_its_own_and_what_was_not_begun_is_the_newest(
    recipes: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.tune("recipes", "tiny")  # twin extends it, and moves with it
    found: dict[str, dict[str, object]] = {}
    monkeypatch.setattr("open_ldm.runs.editions.begun_settings", lambda folder: (found[folder.path.name], ""))
    for name in ("other-seed7", "from-before-seed0", "low-seed0"):
        (tmp_path / "out" / "shapes" / name).mkdir(parents=True)
        found[name] = {"edition": 2}
    assert as_study_begun(study(), "tiny", tmp_path / "out") == (study(), [])

    for name, wanted in (
        ("other-seed7", ("tiny", "twin@1")),
        ("from-before-seed0", ("tiny", "twin@1")),
        ("low-seed0", ("tiny@1", "twin")),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(found, name, {})  # the first edition says none
            chosen, notes = as_study_begun(study(), "tiny", tmp_path / "out")
            (setting,) = chosen.settings("tiny")
            assert (setting.recipe, setting.arms["other"].recipe) == wanted and len(notes) == 1
            assert setting.sources["before"].recipe == wanted[1] and setting.arms["low"].recipe is None
            assert cost_of(study(), "tiny", tmp_path / "out", Choice(("low",))).arms


def test_a_speedrun_goes_on_with_the_edition_it_was_begun_with(
    recipes: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.tune("recipes", "tiny")
    out, begun_with, said = tmp_path / "out", dict[str, object](), list[str]()
    for name in ("level", "base-seed101"):
        (out / name).mkdir(parents=True)
    monkeypatch.setattr("open_ldm.runs.editions.begun_settings", lambda folder: (begun_with, ""))
    sides = sides_of("tiny", CHANGES, "tiny@1", ("training.optimizer.weight_decay=0.1",), "other")
    choice = SpeedrunChoice(points=1)
    run = Speedrun(sides, out, choice, say=said.append)
    assert [side.recipe for side in run.sides] == ["tiny@1", "tiny@1"]
    assert said == [f"note: {out} was begun under edition 1 of tiny and goes on with that; another --out takes edition 2"]
    assert run.base.training.optimizer.learning_rate == FIRST_RATE

    begun_with["edition"] = 2
    for folder in (out, tmp_path / "new"):
        assert Speedrun(sides, folder, choice, say=said.append).base.training.optimizer.learning_rate == SECOND_RATE
    assert len(said) == 1
