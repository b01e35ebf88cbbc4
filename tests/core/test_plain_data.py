"""JSON and YAML from outside are read within limits. Limits are lowered here, so that inputs stay harmless."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from open_ldm.core import plain_data
from open_ldm.core.config import parse_yaml, read_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import read_json_object, write_json
from open_ldm.core.overrides import apply_overrides
from open_ldm.core.plain_data import PlainDataError, parse_json, parse_yaml_value, to_json


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("MOST_DEPTH", 5), ("MOST_ALIASES", 3), ("MOST_VALUES", 60), ("MOST_YAML_BYTES", 400)):
        monkeypatch.setattr(plain_data, name, limit)


TOO_MUCH_JSON = {
    "nested deeper": "[" * 7 + "]" * 7,
    "more than 38 digits": '{"a": ' + "9" * 40 + "}",
    "digits": "9" * 5000,
    "not a finite number": '{"a": [1e400]}',
    "NaN is no number": "NaN",
    "-Infinity is no number": '{"a": -Infinity}',
    "a": '{"a": 1, "a": 2}',
    "Expecting": "{",
}


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("said", TOO_MUCH_JSON)
def test_json_beyond_a_limit_is_refused_in_one_line(said: str) -> None:
    with pytest.raises(PlainDataError, match=said):
        parse_json(TOO_MUCH_JSON[said])
    with pytest.raises(PlainDataError, match="11 bytes are more than 10"):
        parse_json("[" + " " * 9 + "]", most_bytes=10)
    assert parse_json("[[[[1]]]]") == [[[[1]]]] and parse_json("[1e300, 12345678901234567890]")[1] == 12345678901234567890


@pytest.mark.parametrize("parse", [parse_json, parse_yaml_value])
def test_nesting_that_python_itself_cannot_follow_is_refused(parse: Any) -> None:
    started = time.process_time()
    with pytest.raises((PlainDataError, yaml.YAMLError), match="nested deeper than 64"):
        parse("[" * 20_000)
    assert time.process_time() - started < 5


def test_a_time_is_text_and_no_number_of_base_60() -> None:
    others = "[0, 12, -3, 010, 0x10, 1_6, .5, 1.5e+3, -0.25]"
    assert parse_yaml_value(others) == yaml.safe_load(others)
    assert parse_yaml_value("[1:30, 1:30.5, 2024-01-02]") == ["1:30", "1:30.5", "2024-01-02"]
    assert yaml.safe_load("1:30") == 90  # what the parser would make of it


TOO_MUCH_YAML = {
    "nested deeper": "a: [[[[[1]]]]]",
    "more than 3 aliases": "a: &x 1\nb: [*x, *x, *x, *x]",
    "grows to more than 60 values": "a: &a [1, 2, 3, 4, 5, 6]\nb: &b [*a, *a]\nc: [*b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\nd: "
    + str([0] * 20),
    "nested deeper than 5": "a: &a [*a]",
    "more than 20 entries": "a: &a {" + ", ".join(f"k{i}: 0" for i in range(21)) + "}\nb: {<<: *a}",
    "a value cannot be read": "a: !!int text",
    "cannot be read": "a: !!float ''",
    "more than 38 digits": "a: 0x" + "f" * 40,
    "digits": "a: " + "9" * 5000,
    "not a finite number": "a: .inf",
    "nan is not a finite number": "a: [.nan]",
    "bytes are more than 400": "a: " + "x" * 400,
    "'a' is given twice": "a: 1\nb: 2\na: 3",
}


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("said", TOO_MUCH_YAML)
def test_yaml_beyond_a_limit_is_refused_in_one_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if said == "digits":
        monkeypatch.setattr(plain_data, "MOST_YAML_BYTES", 10_000)
    with pytest.raises(ConfigError, match=said) as refused:
        parse_yaml(TOO_MUCH_YAML[said], "my.yaml")
    assert str(refused.value).startswith("my.yaml ") and len(str(refused.value)) < 300


def test_yaml_within_the_limits_is_what_it_was(tmp_path: Path) -> None:
    text = "base: &b {rate: 1.0e-4, day: 2024-01-02}\nmine: {<<: *b, rate: 2}\nlist: [*b, yes, 'no', 1_000]\n"
    expected = yaml.safe_load(text.replace("2024-01-02", "'2024-01-02'"))
    assert parse_yaml(text, "x") == expected and expected["mine"] == {"rate": 2, "day": "2024-01-02"}
    assert parse_yaml_value(text, as_written=True)["base"] == {"rate": "1.0e-4", "day": "2024-01-02"}
    (tmp_path / "large.yaml").write_text("a: " + "x" * plain_data.MOST_YAML_BYTES)
    with pytest.raises(ConfigError, match=r"needed: a YAML recipe of at most 524,288"):
        read_yaml(tmp_path / "large.yaml")


@pytest.mark.parametrize("value", ["!!int text", "[" * 100 + "]" * 100, ".inf", "9" * 5000, "{a: 1, a: 2}"])
def test_an_override_beyond_a_limit_is_one_line(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        apply_overrides({}, [f"a.b={value}"])
    assert len(str(refused.value)) < 300 and str(refused.value).startswith("the value of override 'a.b=")


def test_json_that_is_written_is_strict_and_shows_no_controls(tmp_path: Path) -> None:
    content = {"nan": math.nan, "list": [math.inf, -math.inf, 1.5], "tensor": torch.tensor(math.nan), "path": tmp_path}
    text = to_json(content | {"esc": "\x1b[31m\x9b\u202e\udc80\x7fé"})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    back = json.loads(text, parse_constant=refuse)
    assert back["nan"] == back["tensor"] == "nan" and back["list"] == ["inf", "-inf", 1.5] and back["path"] == str(tmp_path)
    assert back["esc"] == "\x1b[31m\x9b\u202e\udc80\x7fé" and "é" in text and all(map(str.isprintable, text))
    write_json(tmp_path / "a.json", {"a": "\udc80", "b": math.inf})
    assert read_json_object(tmp_path / "a.json") == {"a": "\udc80", "b": "inf"}
    (tmp_path / "old.json").write_text('{"a": Infinity}')
    assert read_json_object(tmp_path / "old.json") == {"a": math.inf}
    with pytest.raises(PlainDataError):
        parse_json((tmp_path / "old.json").read_text())


def test_no_other_place_reads_or_writes_json_and_yaml_by_itself() -> None:
    """What comes from outside is read by this one file; canonical JSON of our own data may be written for hashes."""
    source = Path(plain_data.__file__).parents[1]
    # What our own processes tell each other, and files that an exported model takes along to where none of ours is installed.
    ours = {"core/plain_data.py", "core/failure.py", "core/peers.py"}
    ours |= {f"portable/{name}.py" for name in ("scheduler", "network", "pipeline")}
    for file in source.rglob("*.py"):
        if file.relative_to(source).as_posix() not in ours:
            text = file.read_text(encoding="utf-8")
            assert not any(call in text for call in ("yaml.load(", "yaml.safe_load(", "json.load(")), file
            assert "json.loads(" not in text.replace("json.loads(json.dumps(", ""), file


@pytest.mark.parametrize(
    "text", ["-.5", "+.5", "-.5e-3", ".5", "1.5", "-1.5", "+.inf", "1:30", "0o7", "12e3", "1e400", "yes", "~", "-"]
)
def test_text_that_looks_like_a_number_is_read_back_as_text(text: str) -> None:
    assert parse_yaml_value(yaml.safe_dump({"a": text})) == {"a": text}
