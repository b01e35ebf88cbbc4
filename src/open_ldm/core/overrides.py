"""Assignments `a.b=c`: settings that are laid over a recipe. What is text in the recipe is taken as it was typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from open_ldm.core.config import meant_in, number_if_scientific
from open_ldm.core.errors import ConfigError, cut, nearest
from open_ldm.core.fields import is_path, is_text, may_be_null, presets_of, tag_of, types_of_field, types_of_item
from open_ldm.core.plain_data import NoBlankError, PlainDataError, parse_yaml_value


def parse_override(text: str, allowed: Sequence[Any] = ()) -> tuple[list[str], Any]:
    """Split `a.b=c` into (["a", "b"], c).

    Args:
        text: The assignment.
        allowed: Types that the setting may have (core/fields.py). Free text and paths are taken as typed, so that `2024-01-02`,
            `no`, `[v2]` and `x #2` stay what they are; every other value is read as YAML, so that numbers, lists and null are
            what they look like.

    Raises:
        ConfigError: The text does not have the form key=value, or the value is not valid YAML.
    """
    keys, value = _split(text)
    if is_text(allowed):
        return keys, _typed_text(value, allowed)
    try:
        content = parse_yaml_value(value) if value.strip() else None
        written = parse_yaml_value(value, as_written=True) if value.strip() else None
    except NoBlankError as error:
        raise ConfigError(f"override {cut(text)!r}: {cut(str(error.problem))}", fix=cut(str(error.note))) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of override {cut(text)!r} is not valid YAML", fix="put it in quotes") from error
    except PlainDataError as error:
        raise ConfigError(f"the value of override {cut(text)!r} cannot be used: {error}") from error
    return keys, number_if_scientific(_with_text(content, written, allowed))


def _split(text: str, kind: type[BaseModel] | None = None) -> tuple[list[str], str]:
    path, separator, value = text.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        meant = "" if kind is None else meant_in(kind, text)
        fix = f"did you mean {meant}?" if meant else "for example training.batch_size=64"
        raise ConfigError(f"override {cut(text)!r} is not of the form key=value", fix=fix)
    return keys, value


def require_given_once(assignments: Sequence[str], *, nested: bool = True) -> None:
    """Refuse assignments of which a later one would replace an earlier one without a word. Equal ones are fine.

    Args:
        assignments: As one person gave them, at one place. What a program puts before them is theirs to change.
        nested: Whether `a=...` also replaces `a.b=...`.

    Raises:
        ConfigError: Two of them set the same thing; both are named.
    """
    for place, text in enumerate(assignments):
        for earlier in assignments[:place]:
            if _replaces(text, earlier) and (nested or _keys(text) == _keys(earlier)) and text.strip() != earlier.strip():
                raise ConfigError(
                    f"{cut(earlier)} and {cut(text)} were both given, and the second replaces the first", needed="one of them"
                )


def last_given(words: Sequence[str]) -> list[str]:
    """Return the words of a command without the assignments that a later one replaces."""
    return [word for place, word in enumerate(words) if not any(_replaces(later, word) for later in words[place + 1 :])]


def settings_in(assignment: str) -> list[str]:
    """Return the dotted name of what `a.b=c` sets; of a mapping, the names of all values in it."""
    name, _, value = assignment.partition("=")
    try:
        content = parse_yaml_value(value)
    except (yaml.YAMLError, PlainDataError):  # it may be free text; who applies the assignment knows
        content = None
    inside = assignments(content, f"{name.strip()}.") if isinstance(content, dict) else []
    return [line.partition("=")[0] for line in inside] or [name.strip()]


def is_within(name: str, around: str) -> bool:
    """Tell whether a dotted name is another one, or lies inside it: `a.b.c` in `a.b`."""
    return f"{name}.".startswith(f"{around}.")


def _replaces(later: str, earlier: str) -> bool:
    """Whether nothing is left of what `a.b=c` set, since the later assignment sets that or what is around it."""
    keys = _keys(later)
    return bool(keys) and _keys(earlier)[: len(keys)] == keys


def _keys(text: str) -> list[str]:
    path, separator, _ = text.partition("=")
    return path.strip().split(".") if separator else []


def _typed_text(value: str, allowed: Sequence[Any]) -> str | None:
    if may_be_null(allowed) and value.strip() in ("", "null"):
        return None
    return None if not value and is_path(allowed) else value  # an empty path would be the folder one is in


def _with_text(content: Any, written: Any, allowed: Sequence[Any]) -> Any:
    """Put back, inside lists and mappings of YAML, what was written where a setting is text."""
    if isinstance(content, dict):
        kinds = {name: types_of_field(allowed, str(name), content) for name in content}
        return {name: _with_text(value, written.get(name, value), kinds[name]) for name, value in content.items()}
    if isinstance(content, list):
        items = types_of_item(allowed)
        return [_with_text(value, text, items) for value, text in zip(content, written, strict=True)]
    return written if is_text(allowed) and content is not None and isinstance(written, str) else content


def apply_overrides(
    content: Mapping[str, Any], overrides: Iterable[str], kind: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return a copy of `content` with every override `a.b=c` applied in order, the `kind` of a block before its other settings.

    A new `kind` starts from its own defaults, and a new preset such as `denoiser.size` from its own values: what `content` says
    of the settings of the old one is discarded, unless the overrides give them.

    Args:
        content: Nested settings.
        overrides: Assignments.
        kind: The config class of the settings, which says which of them are text; without it all values are read as YAML.

    Raises:
        ConfigError: An override cannot be read or addresses something that cannot be set.
    """
    result: dict[str, Any] = _deep_copy(content)
    texts = _kinds_first(overrides)
    given = {tuple(_split(text, kind)[0]) for text in texts}
    for text in texts:
        _apply(result, text, [] if kind is None else [kind], given)
    return result


def _kinds_first(overrides: Iterable[str]) -> list[str]:
    """Put `a.kind=...` before the first `a.b=...`, which the new kind would discard; a second one of `a` replaces the first."""
    ordered: list[str] = []
    for text in overrides:
        keys, place = _keys(text), len(ordered)
        block = keys[:-1]
        if block and keys[-1] == "kind" and keys not in map(_keys, ordered):
            place = next((at for at, other in enumerate(ordered) if _keys(other)[:-1][: len(block)] == block), place)
        ordered.insert(place, text)
    return ordered


def _apply(content: dict[str, Any], text: str, allowed: list[Any], given: set[tuple[str, ...]]) -> None:
    """Apply one override in place; `given` holds the keys that the overrides set, and gets those of a whole block."""
    keys, _ = _split(text)
    node: Any = content
    for depth, name in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            position = _position(node, name, keys)
            allowed = types_of_item(allowed)
            if last:
                node[position] = parse_override(text, allowed)[1]
            node = node[position]
        elif not isinstance(node, dict):
            raise ConfigError(f"override {cut(text)!r}: {'.'.join(keys[:depth])} is a single value and has no key {name!r}")
        else:
            filled, around = presets_of(allowed, name, node), allowed
            allowed = types_of_field(allowed, name, node)
            if last:
                value = parse_override(text, allowed)[1]
                filled += _of_other_kinds(around, node, value) if name == "kind" and "kind" not in node else []
                _set(node, name, value, [one for one in filled if (*keys[:-1], one) not in given])
                given.update((*keys, str(inner)) for inner in (value if isinstance(value, dict) else ()))
            elif not isinstance(node.get(name), dict | list):
                node[name] = {}
            node = node.get(name)


def _of_other_kinds(allowed: Iterable[Any], node: Mapping[str, Any], kind: Any) -> list[str]:
    """Settings of a block that is written without its kind, which the class of `kind` does not have."""
    chosen = [one for one in allowed if isinstance(one, type) and issubclass(one, BaseModel) and tag_of(one) == kind]
    return [name for name in node if chosen and not any(name in one.model_fields for one in chosen)]


def _set(node: dict[str, Any], name: str, value: Any, filled: Iterable[str]) -> None:
    """Set node[name] = value. The settings of an old `kind` do not apply to a new one, nor `filled`, those of an old preset."""
    if name == "kind" and node.get("kind", value) != value:
        node.clear()
    for old in filled:
        node.pop(old, None)
    node[name] = value


def _position(node: list[Any], name: str, keys: Sequence[str]) -> int:
    """Find the item `name` of a list: a number, or the `kind`, `name` or `column` of one of its mappings.

    Examples: controls.flip.gate.kind=..., controls.stain.values=..., stages.large.training.samples=...
    """
    if name.isdigit() and int(name) < len(node):
        return int(name)
    for index in reversed(range(len(node))):
        item = node[index]
        if isinstance(item, dict) and name in (item.get("kind"), item.get("name"), item.get("column")):
            return index
    kinds = [
        str(item.get("name") or item.get("column") or item.get("kind")) if isinstance(item, dict) else str(i)
        for i, item in enumerate(node)
    ]
    raise ConfigError(f"override {cut('.'.join(keys))}: the list has no item {cut(name)!r}", needed=nearest(name, kinds))


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _deep_copy(item) for name, item in value.items()}
    return [_deep_copy(item) for item in value] if isinstance(value, list) else value


def assignments(settings: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """Write a part of a recipe as assignments `a.b=c`, one for each single value or list.

    Args:
        settings: Nested settings.
        prefix: Dotted name of the part, with a dot at its end.

    Returns:
        The assignments, text as it is and everything else as JSON; that of a `kind` comes before those that depend on it.
    """
    lines: list[str] = []
    for name in sorted(settings, key=lambda name: name != "kind"):
        value = settings[name]
        if isinstance(value, Mapping) and value:
            lines += assignments(value, f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value)}")  # JSON is YAML
    return lines
