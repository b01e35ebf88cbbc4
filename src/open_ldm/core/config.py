"""Recipes: frozen pydantic models, read from YAML, changed by `a.b=c`, and explained when they do not fit.

Every config class is defined beside the thing it builds and derives from `Config`. Choices between kinds are unions
discriminated by `kind`. Order of precedence: defaults < recipe file < `key=value`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from open_ldm.core.errors import ConfigError, cut, nearest
from open_ldm.core.fields import (
    alternatives,
    field_names,
    has_setting,
    is_text,
    names_type,
    settings_named,
    shown_location,
    types_of_field,
    types_of_item,
)
from open_ldm.core.habits import meant_by
from open_ldm.core.plain_data import MOST_YAML_BYTES, NoBlankError, PlainDataError, parse_yaml_value


class Config(BaseModel):
    """Base of every config: immutable; an unknown key is an error, and so is NaN or infinity, or true where a number belongs.

    Attributes:
        presets: For each setting that names a preset, the settings whose values the preset gives while they are null. A new
            name discards the values that stood beside the old one (core/overrides.py).
    """

    presets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, content: Any) -> Any:
        for name in content.keys() & cls.model_fields.keys() if isinstance(content, dict) else ():
            if _has_truth_for_number(content[name], list(alternatives(cls.model_fields[name].annotation))):
                raise PydanticCustomError(_TRUTH, "a number, which true and false are not", {"name": name})
        return content


_TRUTH = "truth_for_number"


def _has_truth_for_number(value: Any, allowed: Sequence[Any]) -> bool:
    """Whether true or false stands, also in a list, where there may be a number; pydantic would take 1 and 0 for them."""
    if isinstance(value, list | tuple):
        items = types_of_item(allowed)
        return any(_has_truth_for_number(item, items) for item in value)
    return isinstance(value, bool) and bool not in allowed and any(one in (int, float) for one in allowed)


C = TypeVar("C", bound=Config)
_LINE_LENGTH = 240
"""Characters that the problems of a config may take together, in an error of at most 300."""
_MOST_MEANT = 3
"""Settings of one name, of which all are offered to who types the name alone."""
_LIST_LENGTH = 60
"""Characters of a list that is shown as it was given."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping from a file.

    Raises:
        ConfigError: The file cannot be read, or it is not a YAML mapping in UTF-8; the message names the line.
    """
    try:
        if path.stat().st_size > MOST_YAML_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size:,} bytes", needed=f"a YAML recipe of at most {MOST_YAML_BYTES:,}"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read recipe {path}: {error.strerror}", fix="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8", needed="a YAML recipe") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Read one YAML mapping from text.

    Args:
        text: The YAML.
        source: Where the text comes from, for error messages.

    Raises:
        ConfigError: The text is not a YAML mapping, or beyond a limit (core/plain_data.py); the message names the line.
    """
    try:
        content = parse_yaml_value(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        fix = cut(str(error.note)) if isinstance(error, NoBlankError) else "correct that line"
        raise ConfigError(f"{source} is not valid YAML{where}: {reason}", fix=fix) from error
    except PlainDataError as error:
        raise ConfigError(f"{source} cannot be used: {error}", needed="a YAML recipe") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source} contains a {type(content).__name__}", needed="a mapping of settings")
    return content


def number_if_scientific(value: Any) -> Any:
    """Return the number that a text such as 1e-4 is. YAML 1.1 reads it as text, because it lacks a dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def validate(kind: type[C], content: Mapping[str, Any], *, source: str) -> C:
    """Build a config from plain data.

    Args:
        kind: The config class.
        content: Settings by name.
        source: Where they come from, for error messages.

    Raises:
        ConfigError: Some settings do not fit. One line names for each (at most three) the key, its value and what is needed.
    """
    try:
        return kind.model_validate(_scientific_numbers(content, [kind]))
    except ValidationError as error:
        lines = _lines(kind, _causes(error.errors()))
        told = 1
        while told < min(3, len(lines)) and sum(map(len, lines[: told + 1])) <= _LINE_LENGTH:
            told += 1
        more = f" (and {len(lines) - told} more)" if len(lines) > told else ""
        raise ConfigError(f"{source}: " + " | ".join(lines[:told]) + more) from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a config that is read inside another one, with its place there."""
    first = error.errors()[0]
    location = ".".join(map(str, first["loc"]))
    return f"{location}: {_said(first)}" if location else _said(first)


def _said(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ")


def _lines(kind: type[BaseModel], problems: Sequence[ErrorDetails]) -> list[str]:
    """Explain each problem on one line; what several types of a union say of one value is joined."""
    lines: dict[str, str] = {}
    for problem in problems:
        start, needed = _explain(kind, problem)
        lines[start] = f"{lines[start]} or {needed.lstrip(':; ').removeprefix('needed: ')}" if start in lines else needed
    return [start + needed for start, needed in lines.items()]


def _causes(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows from a problem further inside: a list that is too short, or another type of a union."""
    locations = [problem["loc"] for problem in problems]

    def follows(problem: ErrorDetails) -> bool:
        """Whether a problem only follows from another one, inside the same value."""
        location = problem["loc"]
        if problem["type"] == "too_short":
            return any(len(loc) > len(location) and loc[: len(location)] == location for loc in locations)
        outer = location[:-1]
        is_type = bool(location) and names_type(location[-1])
        return is_type and any(
            len(loc) > len(location) and loc[: len(outer)] == outer and names_type(loc[len(outer)]) for loc in locations
        )

    return [problem for problem in problems if not follows(problem)]


def _scientific_numbers(value: Any, allowed: Sequence[Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: _scientific_numbers(item, types_of_field(allowed, str(name), value)) for name, item in value.items()}
    if isinstance(value, list):
        items = types_of_item(allowed)
        return [_scientific_numbers(item, items) for item in value]
    if isinstance(value, str) and "e" in value.lower() and value[:1] in "0123456789.-+" and not is_text(allowed):
        return number_if_scientific(value)
    return value


def _explain(kind: type[BaseModel], problem: ErrorDetails) -> tuple[str, str]:
    """Return what was given, and what is needed."""
    location = problem["loc"]
    if problem["type"] in ("extra_forbidden", "missing"):
        path = (*shown_location(kind, location[:-1]), location[-1])
    else:
        path = shown_location(kind, location)
    dotted = ".".join(map(str, path))
    given = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            names = field_names(kind, location[:-1])
            if len(location) == 1 and (meant := meant_in(kind, dotted)):
                return f"unknown key {cut(dotted)!r}", f"; did you mean {meant}?"
            deeper = settings_named(kind, str(location[-1]), path[:-1])
            if 0 < len(deeper) <= _MOST_MEANT:
                return f"unknown key {cut(dotted)!r}", f"; did you mean {' or '.join(deeper)}?"
            return f"unknown key {cut(dotted)!r}", f"; needed: {nearest(str(location[-1]), names)}"
        case "missing":
            return f"key {dotted!r} is missing", "; needed: a value for it"
        case "union_tag_invalid":
            tags = str(problem.get("ctx", {}).get("expected_tags", "")).replace("'", "")
            tag = str(problem.get("ctx", {}).get("tag", ""))
            return f"{dotted}.kind={cut(tag)!r} is unknown", f"; needed: {nearest(tag, tags.split(', '))}"
        case "union_tag_not_found":
            return f"key '{dotted}.kind' is missing", "; needed: kind: NAME"
        case _ if problem["type"] == _TRUTH:
            name = problem["ctx"]["name"]
            return f"{'.'.join(map(str, (*path, name)))}={cut(repr(given[name]))}", f"; needed: {problem['msg']}"
        case _:
            message = _said(problem)
            if isinstance(given, Mapping) and problem["type"] == "value_error":
                return (f"{dotted}: {message}" if dotted else message), ""  # a rule between several settings, which it names
            if problem["type"] == "value_error" and isinstance(given, list) and len(repr(given)) > _LIST_LENGTH:
                return f"{dotted}: {message}", ""
            long = isinstance(given, dict) or (isinstance(given, list) and len(repr(given)) > _LIST_LENGTH)
            unquoted = problem["type"] in ("string_type", "path_type") and isinstance(given, bool | int | float)
            fix = "; fix: put it in quotes" if unquoted else ""
            return f"{dotted or 'recipe'}={type(given).__name__ if long else cut(repr(given))}", _needed(message) + fix


def meant_in(kind: type[BaseModel], word: str) -> str:
    """Return which setting of a config somebody means who types a word of other trainers; empty where it has none."""
    is_training = has_setting(kind, "training.samples")
    return meant_by(word, lambda wanted: is_training if wanted.startswith("--") else has_setting(kind, wanted))


def _needed(message: str) -> str:
    """Return pydantic's words as what is needed: '; needed: a valid integer'. What a rule of ours says stays as it is."""
    message = re.sub(r"Input is not a valid path for .*", "Input should be a path", message)
    for theirs, ours in (("tuple", "list"), ("Tuple", "List"), ("dictionary", "mapping")):
        message = message.replace(f"valid {theirs}", f"valid {ours}").replace(f"{theirs} should", f"{ours} should")
    message = re.sub(r"^\w+ should have (at \w+ \d+ \w+).*", r"Input should be \1", message)
    needed = message.removeprefix("Input should be ")
    return f": {message}" if needed == message else f"; needed: {re.sub(', unable to parse.*| or instance of .*', '', needed)}"


class PlainData(Protocol):
    """Anything that can be written as plain data; every `Config` can."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the fields by name; with `mode` "json" their values are those of JSON."""


def to_yaml(config: PlainData) -> str:
    """Write the resolved config as YAML in field order; reading it back gives an equal config."""
    return plain_yaml(config.model_dump(mode="json"))


def plain_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML, in their order."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)


def flattened(content: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to {'a.b': value}; list items are numbered, or named by their kind and column."""
    if isinstance(content, dict):
        items = [(str(name), item) for name, item in content.items()]
    elif isinstance(content, list) and any(isinstance(item, dict) for item in content):
        items = [(_name_of(item, i), item) for i, item in enumerate(content)]
    else:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat.update(flattened(item, f"{prefix}.{name}" if prefix else name))
    return flat


def _name_of(item: Any, position: int) -> str:
    """Name an item of a list in `flattened`."""
    if not isinstance(item, dict):
        return str(position)
    kind = str(item.get("kind", position))
    return f"{kind}.{item['column']}" if "column" in item else kind
