from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from open_ldm.core.config import Config, read_yaml, to_yaml, validate
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import apply_overrides, parse_override


class Adam(Config):
    kind: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)


class Momentum(Config):
    kind: Literal["momentum"] = "momentum"
    momentum: float = 0.9


class Recipe(Config):
    batch_size: int = 32
    optimizer: Annotated[Adam | Momentum, Field(discriminator="kind")] = Adam()
    name: str = "x"
    stages: tuple[Adam, ...] = Field(default=(Adam(),), min_length=1)


def complaint(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Recipe, content, source="my.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_config_is_immutable_and_its_yaml_gives_it_back(tmp_path: Path) -> None:
    recipe = validate(Recipe, {"batch_size": 8, "optimizer": {"kind": "momentum"}, "name": "Bär"}, source="x")
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert validate(Recipe, read_yaml(path), source="x") == recipe
    with pytest.raises(ValidationError):
        recipe.batch_size = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"batch_sise": 8}, ["my.yaml", "'batch_sise'", "did you mean 'batch_size'"]),
        ({"optimizer": {"kind": "adam", "learning_rat": 1}}, ["optimizer", "did you mean 'learning_rate'"]),
        ({"optimizer": {"kind": "adm"}}, ["kind='adm'", "did you mean 'adam'"]),
        ({"optimizer": {"learning_rate": 1}}, ["optimizer.kind"]),
        ({"batch_size": "many"}, ["batch_size='many'"]),
        ({"optimizer": {"kind": "adam", "learning_rate": -1}}, ["learning_rate=-1"]),
        ({"stages": []}, ["stages=[]; needed: at least 1 item"]),
    ],
)
def test_what_does_not_fit_is_explained_in_one_line(content: dict[str, Any], said: list[str]) -> None:
    message = complaint(content)
    assert all(part in message for part in said), message


class Sides(Config):
    size_px: Annotated[int, Field(gt=0)] | tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = 8
    words: dict[str, int] = {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"size_px": -3}, "x: size_px=-3; needed: greater than 0 or a valid list"),
        ({"size_px": [8, -3]}, "x: size_px.1=-3; needed: greater than 0"),
        ({"size_px": "big"}, "x: size_px='big'; needed: a valid integer or a valid list"),
        ({"words": {"int": "b"}}, "x: words.int='b'; needed: a valid integer"),
        ({"words": 3}, "x: words=3; needed: a valid mapping"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_as_it_was_typed(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Sides, content, source="x")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("content", "where"),
    [({"size_px": True}, "size_px=True"), ({"size_px": [8, False]}, "size_px=[8, False]"), ({"share": True}, "share=True")],
)
def test_true_is_no_number_although_python_says_so(content: dict[str, Any], where: str) -> None:
    class Share(Sides):
        share: float | None = None
        known: bool = False

    with pytest.raises(ConfigError) as caught:
        validate(Share, content, source="x")
    assert str(caught.value) == f"x: {where}; needed: a number, which true and false are not"
    assert validate(Share, {"known": True, "share": None, "size_px": (8, 1)}, source="x").known


def test_the_kind_of_a_union_is_no_part_of_a_name_and_many_problems_stay_short() -> None:
    assert "unknown key 'optimizer.learning_rat'; needed: one of kind, learning_rate" in complaint(
        {"optimizer": {"kind": "adam", "learning_rat": 1}}
    )
    message = complaint({f"unknown_key_of_some_length_{number}": 1 for number in range(9)})
    assert len(message) <= 300 and message.endswith(" more)")


def test_a_list_is_short_only_where_nothing_in_it_is_wrong() -> None:
    assert "at least 1 item" in complaint({"stages": []})
    message = complaint({"stages": [{"learning_rate": -1}]})
    assert "stages.0.learning_rate=-1" in message and "at least 1 item" not in message


def test_a_rule_of_a_long_list_is_told_in_its_own_words() -> None:
    class Names(Config):
        names: tuple[str, ...]

        @field_validator("names")
        @classmethod
        def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            raise ValueError("one is listed twice")

    for names, said in ((["a", "a"], "names=['a', 'a']: one is listed twice"), (["a"] * 50, "names: one is listed twice")):
        with pytest.raises(ConfigError) as caught:
            validate(Names, {"names": names}, source="x")
        assert str(caught.value) == f"x: {said}"


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=1", 1), ("a.b=1e-4", 1e-4), ("a.b=[1, 2]", [1, 2]), ("a.b=null", None), ("a.b=", None), ("a.b=x=y", "x=y")],
)
def test_override_values_are_what_they_look_like(text: str, value: object) -> None:
    assert parse_override(text) == (["a", "b"], value)


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", "a=[1"])
def test_a_misshapen_override_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_override(text)


def test_overrides_reach_lists_by_number_and_by_kind_and_leave_the_original_alone() -> None:
    content = {"controls": [{"kind": "flip"}, {"kind": "crop", "gate": {"kind": "constant"}}]}
    changed = apply_overrides(content, ["controls.0.gate.kind=constant", "controls.crop.gate.alpha=2", "new.deep=3"])
    assert changed["controls"] == [
        {"kind": "flip", "gate": {"kind": "constant"}},
        {"kind": "crop", "gate": {"kind": "constant", "alpha": 2}},
    ]
    assert changed["new"] == {"deep": 3}
    named = apply_overrides({"stages": [{"name": "small"}, {"name": "large"}]}, ["stages.large.samples=3"])
    assert named == {"stages": [{"name": "small"}, {"name": "large", "samples": 3}]}
    assert content["controls"][0] == {"kind": "flip"}
    with pytest.raises(ConfigError, match="no item 'size'"):
        apply_overrides(content, ["controls.size.gate=1"])


@pytest.mark.parametrize(
    ("content", "said"), [("a: [1", "not valid YAML at line"), ("- 1", "contains a list"), (None, "cannot read recipe")]
)
def test_files_that_are_no_recipe(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_yaml(path)
