"""Text and path settings of an assignment are taken as typed; everything else is what it looks like in YAML."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from open_ldm.core.config import Config, read_yaml, to_yaml, validate
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import apply_overrides, assignments, last_given, require_given_once
from open_ldm.core.plain_data import parse_yaml_value
from open_ldm.runs.recipe import load_recipe


class Pictures(Config):
    kind: Literal["pictures"] = "pictures"
    path: Path
    range: tuple[tuple[int, int], ...] | None = None


class Shards(Config):
    kind: Literal["shards"] = "shards"
    path: str = Field(min_length=1)


class Shapes(Config):
    kind: Literal["shapes"] = "shapes"
    length: int = 3


class Shrunk(Config):
    kind: Literal["shrunk"] = "shrunk"
    of: Annotated[Pictures | Shards, Field(discriminator="kind")]


class Settings(Config):
    name: str = "x"
    note: str | None = None
    prompts: tuple[str, ...] = ()
    words: dict[str, str] = {}
    rate: float = 1.0
    samples: int = 4
    source: Annotated[Pictures | Shards | Shapes | Shrunk, Field(discriminator="kind")] = Shapes()


STRANGE = [
    "/x/scan #2",
    "/x/lab: a",
    "lab:",
    "trailing ",
    " leading",
    "'quoted'",
    '"double"',
    "2024-01-02",
    "2024-13-45",
    "no",
    "1e5",
    "007",
    "0x10",
    "1_000",
    "12:30:45",
    "[v2]",
    "{a}",
    "null",
    "~",
    "a=b",
    "*.tar",
    "&x",
    "!tag",
    "%20",
    "- x",
    "[1",
    "C:\\data",
]


def build(*overrides: str, content: dict[str, Any] | None = None) -> Settings:
    return validate(Settings, apply_overrides(content or Settings().model_dump(mode="json"), overrides, Settings), source="x")


@pytest.mark.parametrize("text", STRANGE)
def test_text_and_paths_are_taken_as_typed_and_come_back_from_a_written_recipe(text: str, tmp_path: Path) -> None:
    built = build("source.kind=shards", f"source.path={text}", f"name={text}")
    assert isinstance(built.source, Shards)
    assert (built.source.path, built.name) == (text, text)
    folder = build("source.kind=pictures", f"source.path={text}")
    assert isinstance(folder.source, Pictures) and str(folder.source.path) == str(Path(text))
    inner = build("source.kind=shrunk", "source.of.kind=shards", f"source.of.path={text}")
    assert isinstance(inner.source, Shrunk) and inner.source.of.path == text
    (tmp_path / "recipe.yaml").write_text(to_yaml(built), encoding="utf-8")
    assert validate(Settings, read_yaml(tmp_path / "recipe.yaml"), source="x") == built


@pytest.mark.parametrize("text", STRANGE)
def test_settings_given_as_plain_data_arrive_as_they_are(text: str) -> None:
    plain = {"name": text, "prompts": [text], "source": {"kind": "shards", "path": text}, "rate": 2e-4, "samples": 7}
    built = build(*assignments(plain))
    assert isinstance(built.source, Shards)
    assert (built.name, built.prompts, built.source.path, built.rate, built.samples) == (text, (text,), text, 2e-4, 7)


@pytest.mark.parametrize("text", ["2024-01-02", "no", "1e5", "007", "on", "0x10", "12:30:45"])
def test_text_within_lists_and_mappings_is_what_was_written(text: str) -> None:
    built = build(
        f"prompts=[{text}, b]", f"words={{a: {text}}}", f"source={{kind: pictures, path: {text}, range: [[0, 4095]]}}"
    )
    assert (built.prompts, built.words) == ((text, "b"), {"a": text})
    assert isinstance(built.source, Pictures)
    assert (built.source.path, built.source.range) == (Path(text), ((0, 4095),))
    assert build(f"prompts.0={text}", content={"prompts": ["a"]}).prompts == (text,)
    assert build(f"words.a={text}", content={"words": {}}).words == {"a": text}


def test_other_settings_are_read_as_yaml() -> None:
    built = build("samples=1e5", "rate=1e-4", "note=null", "prompts=[]")
    assert (built.samples, built.rate, built.note, built.prompts) == (100_000, 1e-4, None, ())
    assert build("note=").note is None and build("name=").name == "" and build("note=no").note == "no"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data.holdout={share:0.5}", "'share:0.5' has no blank behind its colon; fix: a blank behind the colon, share: 0.5"),
        ("data.source.columns={text:stain}", "fix: a blank behind the colon, text: stain"),
        ("conditioning.controls=[{kind:flip}]", "fix: a blank behind the colon, kind: flip"),
        ("data.source={kind: folder, path:/a}", "fix: a blank behind the colon, path: /a"),
    ],
)
def test_a_colon_without_a_blank_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("photos-dit", [text])
    assert caught.value.one_line().startswith(f"override {text!r}: ") and said in caught.value.one_line()
    name, _, value = text.partition("=")
    (tmp_path / "mine.yaml").write_text(f"extends: photos-dit\nmine:\n  {name}: {value}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml is not valid YAML at line 3, .* behind its colon; fix: a blank behind"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_colons_that_belong_to_a_key_or_a_value_stay() -> None:
    written = "{'a:b': 1, \"c:d\": , e: f:g, h:i: 2, j: null, k: }"
    assert parse_yaml_value(written) == {"a:b": 1, "c:d": None, "e": "f:g", "h:i": 2, "j": None, "k": None}


def test_an_empty_path_is_not_the_folder_one_is_in() -> None:
    with pytest.raises(ConfigError, match=r"^x: source\.path=None; needed: a path$"):
        build("source.kind=pictures", "source.path=")


def test_a_yaml_file_may_name_a_date_and_is_told_to_quote_a_number(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: 2024-01-02\n", encoding="utf-8")
    assert validate(Settings, read_yaml(path), source="x").name == "2024-01-02"
    path.write_text("name: 007\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"needed: a valid string; fix: put it in quotes$"):
        validate(Settings, read_yaml(path), source="x")


def test_what_a_later_assignment_replaces_is_refused() -> None:
    require_given_once(["a.b=1", "a.c=2", "a.b=1", "a.b.d=3", "b=4"])  # said again, refined, others
    for given in (["a.b=1", "c=0", "a.b=2"], ["a.b=1", "a={b: 2}"], ["a.b.c=1", "a.b=null"]):
        with pytest.raises(ConfigError, match=f"{given[0]} and {given[-1]} were both given"):
            require_given_once(given)
    require_given_once(["a.b=1", "a=2"], nested=False)
    with pytest.raises(ConfigError, match="size=16x16 and size=32x32 were both given"):
        require_given_once(["size=16x16", "size=32x32"], nested=False)


def test_what_a_program_put_first_gives_way() -> None:
    given = ["ldm", "train", "a.b=1", "a.c=2", "a.b=3", "d.e.f=4", "d={e: null}", "d.g=5", "--out", "x"]
    assert last_given(given) == ["ldm", "train", "a.c=2", "a.b=3", "d={e: null}", "d.g=5", "--out", "x"]


def test_a_kind_comes_before_the_settings_that_depend_on_it_wherever_it_is_typed() -> None:
    wanted = Shrunk(of=Shards(path="b.tar"))
    for given in itertools.permutations(("source.of.path=b.tar", "source.of.kind=shards", "source.kind=shrunk")):
        assert build(*given).source == wanted, given
    whole = "source={kind: pictures, path: a}"
    assert build("source.length=7", whole).source == build(whole).source == Pictures(path=Path("a"))
    assert build(whole, "source.path=b.tar", "source.kind=shards").source == Shards(path="b.tar")
    assert build("source.kind=shards", "source.path=b.tar", "source.kind=shapes").source == Shapes()
    assert build("source.kind=shards", "source.kind=shapes", "source.length=7").source == Shapes(length=7)
