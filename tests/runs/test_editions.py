"""Editions of packaged recipes: which there are, how one names them, and runs that keep the one they were begun with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import open_ldm
from open_ldm.cli.completion import complete_recipe, complete_setting
from open_ldm.commands.differing import differing_settings
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.run_folder.history import read_history
from open_ldm.run_folder.report.page import render_report
from open_ldm.runs import catalogue
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.catalogue import all_packaged, editions, is_packaged, recipe_text, with_edition
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.recipe_files import recipe_content
from open_ldm.runs.train import train
from tests.cli.conftest import ldm
from tests.runs.editions import DIT, FIRST_RATE, SECOND_RATE, Package, package

FIRST, ALL = ("training.samples=8",), ("training.samples=16",)


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    return package(tmp_path / "package", monkeypatch)


def rate(name: str, edition: int | None = None) -> float:
    return load_recipe(name, (), edition).training.optimizer.learning_rate


def wrong_editions() -> list[str]:
    """What is wrong with the editions of the packaged recipes."""
    wrong = []
    for name in all_packaged():
        known = editions(name)
        if known != list(range(1, known[-1] + 1)):
            wrong.append(f"{name} has editions {known}")
        text = recipe_text(name)
        if catalogue._EDITION.search(text) and catalogue._base_of(text) is not None:
            wrong.append(f"{name} has an edition of its own and extends a recipe that moves on: write extends: NAME@K")
        for edition in known:
            content = recipe_content(f"{name}@{edition}")
            if (content["name"], content.get("edition", 1)) != (name, edition):
                wrong.append(f"{name}@{edition} says it is {content['name']}@{content.get('edition', 1)}")
        if recipe_content(name) != recipe_content(f"{name}@{known[-1]}"):
            wrong.append(f"{name} is not {name}@{known[-1]}")
    return wrong


def test_editions_of_the_packaged_recipes_are_in_order() -> None:
    assert wrong_editions() == []


def test_a_name_is_the_newest_edition_and_earlier_ones_have_a_number(recipes: Package) -> None:
    assert editions("tiny") == [1] and load_recipe("tiny@1") == load_recipe("tiny") and with_edition("tiny") == "tiny"
    recipes.tune("recipes", "tiny")
    assert editions("tiny") == [1, 2] and with_edition("tiny") == "tiny@2" and with_edition("tiny@1") == "tiny@1"
    assert (rate("tiny"), rate("tiny@1"), rate("tiny@2"), rate("tiny", 1)) == (SECOND_RATE, FIRST_RATE, SECOND_RATE, FIRST_RATE)
    assert [load_recipe(name).edition for name in ("tiny", "tiny@1", "tiny@2")] == [2, 1, 2]
    assert {load_recipe(name).name for name in ("tiny", "tiny@1", "tiny@2")} == {"tiny"}
    recipes.tune("recipes/autoencoder", "tiny-autoencoder")
    assert load_autoencoder_recipe("tiny-autoencoder").edition == 2
    assert load_autoencoder_recipe("tiny-autoencoder@1").training.optimizer.learning_rate == FIRST_RATE
    assert wrong_editions() == []


def test_a_recipe_moves_with_what_it_extends(recipes: Package, tmp_path: Path) -> None:
    recipes.tune("recipes", "tiny")
    assert editions("twin") == [1, 2] and (rate("twin"), rate("twin@1")) == (SECOND_RATE, FIRST_RATE)
    assert load_recipe("twin").edition == 2 and load_recipe("twin@1").edition == 1
    assert load_recipe("twin@1").denoiser.kind == "dit" and "extends: tiny@1\n" in recipe_text("twin@1")
    assert "extends: tiny\n" in recipe_text("twin")
    own = tmp_path / "own.yaml"
    own.write_text("extends: twin\nname: own\n")
    assert (rate(str(own)), rate(str(own), 1)) == (SECOND_RATE, FIRST_RATE) and load_recipe(str(own)).edition == 2
    (tmp_path / "further.yaml").write_text("extends: own.yaml\nname: further\n")
    assert rate(str(tmp_path / "further.yaml"), 1) == FIRST_RATE
    own.write_text("extends: twin@1\nname: own\n")
    assert rate(str(own), 2) == FIRST_RATE
    assert wrong_editions() == []


def test_one_that_is_tuned_beyond_what_it_extends_has_a_number_of_its_own(recipes: Package) -> None:
    recipes.tune("recipes", "tiny")
    (recipes.root / "recipes" / "earlier" / "twin@1.yaml").write_text(recipe_text("twin@1"))
    (recipes.root / "recipes" / "earlier" / "twin@2.yaml").write_text(recipe_text("twin"))
    recipes.write("recipes/twin.yaml", {"extends": "tiny@2", "name": "twin", "denoiser": {**DIT, "depth": 3}, "edition": 3})
    assert editions("twin") == [1, 2, 3] and [rate(f"twin@{each}") for each in (1, 2, 3)] == [FIRST_RATE, *[SECOND_RATE] * 2]
    assert [load_recipe(f"twin@{each}").denoiser.model_dump()["depth"] for each in (1, 2, 3)] == [2, 2, 3]
    assert wrong_editions() == []


def test_wrong_editions_are_found(recipes: Package) -> None:
    recipes.tune("recipes", "tiny", edition=3)
    assert any("tiny has editions [2, 3]" in line for line in wrong_editions())
    assert "tiny@2 says it is tiny@1" in wrong_editions()
    recipes.write("recipes/twin.yaml", {"extends": "tiny", "name": "twin", "denoiser": DIT, "edition": 3})
    assert any("twin has an edition of its own and extends" in line for line in wrong_editions())


@pytest.mark.parametrize("name", ["tiny@3", "tiny@0", "tiny@", "tiny@new", "twin@3"])
def test_other_editions_are_refused_in_one_line_with_those_that_exist(recipes: Package, name: str) -> None:
    recipes.tune("recipes", "tiny")
    with pytest.raises(ConfigError) as caught:
        load_recipe(name)
    plain = name.partition("@")[0]
    assert f"needed: {plain}@1 or {plain}@2" in caught.value.one_line() and "\n" not in caught.value.one_line()
    with pytest.raises(ConfigError, match="edition is no setting to change"):
        load_recipe("tiny", ["edition=1"])
    assert is_packaged("tiny@1") and not is_packaged("tiny@home/pictures") and not is_packaged("mine@1")


def test_a_file_whose_name_looks_like_an_edition_is_a_file(
    recipes: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny@1.yaml").write_text("extends: tiny\nname: mine\n")
    Path("tiny@home").mkdir()
    Path("tiny@1").mkdir()  # the edition comes first: ./tiny@1 is the folder
    assert load_recipe("tiny@1.yaml").name == "mine" and not is_packaged("tiny@home") and is_packaged("tiny@1")


def test_an_edition_is_no_number_of_the_training(recipes: Package, tmp_path: Path) -> None:
    first = load_recipe("tiny")
    assert "edition" not in to_yaml(first) and first.title == "tiny"
    recipes.tune("recipes", "tiny", rate=FIRST_RATE)
    second = load_recipe("tiny")
    assert second.numerics == first.numerics and second.edition == 2 and second.title == "tiny, edition 2"
    (tmp_path / "config.yaml").write_text(to_yaml(second))
    assert load_recipe(str(tmp_path / "config.yaml")) == second
    (row,) = differing_settings([first.model_dump(mode="json"), second.model_dump(mode="json")])
    assert (row.setting, row.values) == ("edition", ("1", "2"))


def newest(run: Path) -> dict[str, object]:
    folder = max((run / "checkpoints").iterdir())
    return {"name": folder.name, "recipe": json.loads((folder / "MANIFEST.json").read_text())["recipe"]}


def test_the_same_command_goes_on_with_the_recipe_that_a_run_was_begun_with(
    recipes: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "tiny", "--out", "run")
    train(load_recipe("tiny"), tmp_path / "whole", silent=True)
    assert ldm(capsys, *command, *FIRST)[0] == 0
    recipes.tune("recipes", "tiny")
    code, _, error = ldm(capsys, *command, *ALL)
    assert code == 0 and "run was begun under edition 1 of tiny and goes on with its own recipe" in error
    assert "another --out takes edition 2" in error and "bitwise: yes" in error
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert any("begun under edition 1 of tiny" in each.get("message", "") for each in events)
    one, whole = newest(tmp_path / "run"), newest(tmp_path / "whole")
    assert one == whole and "edition" not in yaml.safe_load(Path("run/config.yaml").read_text())
    for group in ("model", "ema", "optimizer"):
        ours, twin = (
            load_file(tmp_path / run / "checkpoints" / f"{one['name']}/{group}.safetensors") for run in ("run", "whole")
        )
        assert all(ours[name].equal(twin[name]) for name in twin)
    code, _, error = ldm(capsys, "train", "tiny", "--out", "other", *FIRST)
    assert code == 0 and "tiny, edition 2: " in error and "begun under" not in error
    assert newest(tmp_path / "other")["recipe"]["edition"] == 2  # type: ignore[index]
    assert "recipe tiny, edition 2" in render_report(read_history(tmp_path / "other"))
    assert ldm(capsys, *command, "--dry-run")[2].startswith("note: run was begun under edition 1")


def test_changes_that_a_run_was_not_begun_with_are_refused_as_ever(
    recipes: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(load_recipe("tiny", [*FIRST, "training.seed=3"]), tmp_path / "run", silent=True)
    recipes.tune("recipes", "tiny")
    code, _, error = ldm(capsys, "train", "tiny", *FIRST, "--out", "run")
    assert code == 2 and "was started with training.seed=3 (now 0); needed" in error and "leave the change out" in error
    code, _, error = ldm(capsys, "train", "tiny", *FIRST, "training.seed=3", "denoiser.depth=1", "--out", "run")
    assert code == 2 and "denoiser.depth=2 (now 1); needed" in error
    code, _, error = ldm(capsys, "train", "tiny@2", *FIRST, "training.seed=3", "--out", "run")
    assert (
        code == 2
        and "optimizer.learning_rate=0.001 (now 0.004)" in error
        and "fix: name its edition 1 (RECIPE@1 in the command)" in error
    )
    assert ldm(capsys, "train", "tiny@1", *FIRST, "training.seed=3", "--out", "run")[0] == 0
    assert ldm(capsys, "train", "tiny", *FIRST, "training.seed=3", "--out", "run")[0] == 0


def test_recipes_of_ones_own_and_python_keep_it_too(
    recipes: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text("extends: twin\nname: own\n")
    content = {"extends": "tiny", "name": "mapped"}
    given = {"own": "own.yaml", "named": "tiny", "mapped": content, "recipe": load_recipe("tiny")}
    for out, recipe in given.items():
        open_ldm.train(recipe, *FIRST, out=out, progress=False)
    capsys.readouterr()
    recipes.tune("recipes", "tiny")
    for out, recipe in {**given, "recipe": load_recipe("tiny")}.items():
        run = open_ldm.train(recipe, *ALL, out=out)
        assert run.samples_seen == 16 and run.recipe.edition == 1 and run.recipe.training.optimizer.learning_rate == FIRST_RATE
        assert "begun under edition 1" in capsys.readouterr().err
    changed = load_recipe("tiny", ["training.seed=2"])
    with pytest.raises(ConfigError, match=r"learning_rate=0.001 \(now 0.004\)"):
        open_ldm.train(changed, out="recipe", progress=False)


def test_stages_and_autoencoders_keep_it_too(recipes: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = ("train", "staged", "--out", "staged", "stages.one.training.samples=8")
    encoder = ("autoencoder", "train", "tiny-autoencoder", "--out", "encoder")
    assert ldm(capsys, *staged, "stages.two.training.samples=8")[0] == 0 and ldm(capsys, *encoder, *FIRST)[0] == 0
    recipes.tune("recipes", "tiny")
    recipes.tune("recipes/autoencoder", "tiny-autoencoder")
    code, _, error = ldm(capsys, *staged, "stages.two.training.samples=16")
    assert code == 0 and error.count("begun under edition 1 of staged") == 1
    assert newest(tmp_path / "staged" / "stages" / "2-two")["recipe"]["training"]["optimizer"]["learning_rate"] == FIRST_RATE  # type: ignore[index]
    code, _, error = ldm(capsys, *encoder, *ALL)
    assert code == 0 and "begun under edition 1 of tiny-autoencoder" in error
    assert load_autoencoder_recipe("encoder").training.optimizer.learning_rate == FIRST_RATE


def test_editions_are_listed_shown_planned_and_completed(recipes: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(ldm(capsys, "recipes", "--json")[1])["editions"] == {}
    assert complete_recipe("tiny") == ["tiny", "tiny-autoencoder"]
    recipes.tune("recipes", "tiny")
    _, out, _ = ldm(capsys, "recipes")
    assert "For tests. (edition 2; before: tiny@1)" in out and "For tests. (edition 2; before: twin@1)" in out
    assert json.loads(ldm(capsys, "recipes", "--json")[1])["editions"] == {each: [1, 2] for each in ("staged", "tiny", "twin")}
    assert f"learning_rate: {FIRST_RATE}" in ldm(capsys, "recipes", "show", "tiny@1")[1]
    assert complete_recipe("tiny") == ["tiny", "tiny-autoencoder", "tiny@1", "tiny@2"] and complete_recipe("twin@") == [
        "twin@1",
        "twin@2",
    ]
    assert complete_recipe("ti") == ["tiny", "tiny-autoencoder"] and "edition=" not in complete_setting("")
    assert ldm(capsys, "plan", "tiny", "--no-measure")[1].startswith("tiny, edition 2: ")
    (plan,) = json.loads(ldm(capsys, "plan", "tiny@1", "--no-measure", "--json")[1])["plans"]
    assert plan["edition"] == 1
