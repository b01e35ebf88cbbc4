"""Recipes: frozen pydantic models, read from YAML, changed by `a.b=c`, and explained when they do not fit.

Every config class is defined beside the thing it builds and derives from `Config`. Choices between kinds are unions
discriminated by `kind`. Order of precedence: defaults < recipe file < `key=value`.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from open_ldm.core.errors import ConfigError, nearest


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


C = TypeVar("C", bound=Config)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping from a file.

    Raises:
        ConfigError: The file cannot be read, or it is not a YAML mapping in UTF-8; the message names the line.
    """
    try:
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
        ConfigError: The text is not a YAML mapping; the message names the line.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{source} is not valid YAML{where}: {reason}", fix="correct that line") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source} contains a {type(content).__name__}", needed="a mapping of settings")
    return content


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `a.b=c` into (["a", "b"], c), with c read as YAML, so that numbers, lists and null are what they look like.

    Raises:
        ConfigError: The text does not have the form key=value, or the value is not valid YAML.
    """
    path, separator, value = text.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"override {text!r} is not of the form key=value", fix="for example training.batch_size=64")
    try:
        return keys, _number_if_scientific(yaml.safe_load(value) if value.strip() else None)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of override {text!r} is not valid YAML", fix="put it in quotes") from error


def _number_if_scientific(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text because it lacks a dot; whoever types it means the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def apply_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `content` with every override `a.b=c` applied in order.

    Raises:
        ConfigError: An override cannot be read or addresses something that cannot be set.
    """
    result: dict[str, Any] = _deep_copy(content)
    for text in overrides:
        keys, value = parse_override(text)
        node: Any = result
        for depth, name in enumerate(keys):
            last = depth == len(keys) - 1
            if isinstance(node, list):
                node = _list_item(node, name, keys, value, last)
            elif not isinstance(node, dict):
                raise ConfigError(f"override {text!r}: {'.'.join(keys[:depth])} is a single value and has no key {name!r}")
            else:
                if last:
                    _set(node, name, value)
                elif not isinstance(node.get(name), dict | list):
                    node[name] = {}
                node = node.get(name)
    return result


def _set(node: dict[str, Any], name: str, value: Any) -> None:
    """Set node[name] = value. A new `kind` starts from its own defaults, since the settings of the old one do not apply."""
    if name == "kind" and node.get("kind", value) != value:
        node.clear()
    node[name] = value


def _list_item(node: list[Any], name: str, keys: Sequence[str], value: Any, last: bool) -> Any:
    """Return the item `name` of a list: a number, or the `kind` or `name` of one of its mappings.

    Examples: controls.flip.gate.kind=..., stages.large.training.samples=...
    """
    position: int | None = None
    if name.isdigit() and int(name) < len(node):
        position = int(name)
    else:
        for index, item in enumerate(node):
            if isinstance(item, dict) and name in (item.get("kind"), item.get("name")):
                position = index
    if position is None:
        kinds = [str(item.get("name", item.get("kind"))) if isinstance(item, dict) else str(i) for i, item in enumerate(node)]
        raise ConfigError(f"override {'.'.join(keys)}: the list has no item {name!r}", needed=nearest(name, kinds))
    if last:
        node[position] = value
    return node[position]


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _deep_copy(item) for name, item in value.items()}
    return [_deep_copy(item) for item in value] if isinstance(value, list) else value


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
        return kind.model_validate(_scientific_numbers(content))
    except ValidationError as error:
        problems = _causes(error.errors())
        lines = [_explain(kind, problem) for problem in problems[:3]]
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ConfigError(f"{source}: " + " | ".join(lines) + more) from None


def _causes(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out lists that count as too short only because one of their items is wrong."""
    locations = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(len(loc) > len(problem["loc"]) and loc[: len(problem["loc"])] == problem["loc"] for loc in locations)
    ]


def _scientific_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _scientific_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_scientific_numbers(item) for item in value]
    if isinstance(value, str) and "e" in value.lower() and value[:1] in "0123456789.-+":
        return _number_if_scientific(value)
    return value


def _explain(kind: type[BaseModel], problem: ErrorDetails) -> str:
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    dotted = ".".join(str(part) for part in location)
    given = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            names = _field_names(kind, location[:-1])
            return f"unknown key {dotted!r}; {nearest(str(location[-1]), names)}"
        case "missing":
            return f"key {dotted!r} is missing; needed: a value for it"
        case "union_tag_invalid":
            tags = str(problem.get("ctx", {}).get("expected_tags", "")).replace("'", "")
            tag = str(problem.get("ctx", {}).get("tag", ""))
            return f"{dotted}.kind={tag!r} is unknown; {nearest(tag, tags.split(', '))}"
        case "union_tag_not_found":
            return f"key '{dotted}.kind' is missing; needed: kind: NAME"
        case _:
            message = problem["msg"].removeprefix("Value error, ")
            if not dotted and isinstance(given, Mapping):  # a rule between several settings, which names them itself
                return message
            shown = repr(given) if not isinstance(given, dict | list) else type(given).__name__
            return f"{dotted or 'recipe'}={shown}: {message}"


def _field_names(kind: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Find the names of the fields of the model at `location` (field names, list indices and union tags)."""
    candidates: list[Any] = [kind]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            for model in _models_in(candidate):
                if isinstance(part, str) and part in model.model_fields:
                    following.append(model.model_fields[part].annotation)
                elif isinstance(part, int) or _tag_of(model) == part:
                    following.append(model)
        candidates = following or candidates
    return sorted({name for candidate in candidates for model in _models_in(candidate) for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return _models_in(annotation.__value__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _tag_of(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return field.default if field is not None else None


class PlainData(Protocol):
    """Anything that can be written as plain data; every `Config` can."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the fields by name; with `mode` "json" their values are those of JSON."""


def to_yaml(config: PlainData) -> str:
    """Write the resolved config as YAML in field order; reading it back gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def flattened(content: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to {'a.b': value}; list items are numbered, or named by their kind."""
    if isinstance(content, dict):
        items = [(str(name), item) for name, item in content.items()]
    elif isinstance(content, list) and any(isinstance(item, dict) for item in content):
        items = [(str(item.get("kind", i)) if isinstance(item, dict) else str(i), item) for i, item in enumerate(content)]
    else:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat.update(flattened(item, f"{prefix}.{name}" if prefix else name))
    return flat


def assignments(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Write a part of a recipe as assignments `a.b=c`, one for each single value or list.

    Args:
        settings: Nested settings.
        prefix: Dotted name of the part, with a dot at its end.

    Returns:
        The assignments; that of a `kind` comes before those that depend on it.
    """
    lines: list[str] = []
    for name in sorted(settings, key=lambda name: name != "kind"):
        value = settings[name]
        if isinstance(value, Mapping) and value:
            lines += assignments(value, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}={json.dumps(value)}")  # JSON is YAML
    return lines
