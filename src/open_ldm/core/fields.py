"""Looking up, in a config class, which types a setting may have, before anything is built from it."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

_TEXT = (str, Path, PurePath)
_TYPE_NAME = re.compile(
    r"(int|float|str|bool|none|path)$|(constrained|function|nullable|literal|tuple|list|dict|lax-or-strict)(-|\[|$)"
)
"""What pydantic calls a type in the location of a problem."""
_DEEPEST = 6
"""Levels of settings that are looked through for a name."""


def alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows: the members of a union, without `Annotated` and aliases."""
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        yield from alternatives(annotation.__value__)
    elif typing.get_origin(annotation) is typing.Annotated:
        yield from alternatives(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation


def types_of_field(allowed: Iterable[Any], name: str, content: Any) -> list[Any]:
    """Return what the setting `name` may be.

    Args:
        allowed: What the settings around it may be, such as a config class.
        name: Name of the setting.
        content: The settings around it as plain data: their `kind` chooses among several classes.
    """
    kind = content.get("kind") if isinstance(content, Mapping) else None
    found: list[Any] = []
    for one in allowed:
        if isinstance(one, type) and issubclass(one, BaseModel):
            if name in one.model_fields and (kind is None or tag_of(one) in (None, kind)):
                found += alternatives(one.model_fields[name].annotation)
        elif typing.get_origin(one) in (dict, Mapping):
            found += alternatives(typing.get_args(one)[1])
    return found


def presets_of(allowed: Iterable[Any], name: str, content: Any) -> list[str]:
    """Return the settings that the preset named by `name` gives (`Config.presets`); arguments as `types_of_field`."""
    kind = content.get("kind") if isinstance(content, Mapping) else None
    configs = (one for one in allowed if isinstance(one, type) and issubclass(one, BaseModel) and tag_of(one) in (None, kind))
    return [filled for one in configs for filled in getattr(one, "presets", {}).get(name, ())]


def types_of_item(allowed: Iterable[Any]) -> list[Any]:
    """Return what an item of a list may be, where the list may be one of `allowed`."""
    lists = (one for one in allowed if typing.get_origin(one) in (list, tuple, Sequence))
    return [kind for one in lists for part in typing.get_args(one) if part is not Ellipsis for kind in alternatives(part)]


def is_text(allowed: Sequence[Any]) -> bool:
    """Return whether a setting is free text or a path, whatever it looks like; it may also be null or one of some words."""
    free = any(one in _TEXT for one in allowed)
    return free and all(
        one in _TEXT or one in (None, type(None)) or typing.get_origin(one) is typing.Literal for one in allowed
    )


def may_be_null(allowed: Iterable[Any]) -> bool:
    """Return whether null is a value of the setting."""
    return any(one in (None, type(None)) for one in allowed)


def is_path(allowed: Iterable[Any]) -> bool:
    """Return whether the setting becomes a path."""
    return any(one in (Path, PurePath) for one in allowed)


def field_names(kind: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Find the names of the fields of the model at `location` (field names, list indices and union tags)."""
    candidates: list[Any] = [kind]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            for model in _models_in(candidate):
                if isinstance(part, str) and part in model.model_fields:
                    following.append(model.model_fields[part].annotation)
                elif isinstance(part, int) or tag_of(model) == part:
                    following.append(model)
        candidates = following or candidates
    return sorted({name for candidate in candidates for model in _models_in(candidate) for name in model.model_fields})


def has_setting(kind: type[BaseModel], dotted: str) -> bool:
    """Return whether a config, or one of the kinds that it may have there, has a setting such as "training.batch_size"."""
    parts = dotted.split(".")
    return all(part in field_names(kind, parts[:at]) for at, part in enumerate(parts))


def settings_named(kind: type[BaseModel], name: str, inside: Sequence[int | str] = ()) -> list[str]:
    """Return the settings with exactly this name, of whatever kinds there may be, as dotted paths: those the least deep.

    Args:
        kind: The config class.
        name: The name.
        inside: Where to look: names of settings that lead there. A setting that stands there itself is not meant.
    """
    level: list[tuple[tuple[str, ...], Any]] = [((), kind)]
    for depth in range(_DEEPEST):
        fields = [
            ((*path, field), info.annotation)
            for path, annotation in level
            for model in alternatives(annotation)
            if isinstance(model, type) and issubclass(model, BaseModel)
            for field, info in model.model_fields.items()
            if depth >= len(inside) or field == inside[depth]
        ]
        found = [".".join(path) for path, _ in fields if path[-1] == name and depth > len(inside)]
        if found:
            return list(dict.fromkeys(found))
        level = fields
    return []


def shown_location(kind: type[BaseModel], location: Sequence[int | str]) -> tuple[int | str, ...]:
    """Return the place of a problem as a user types it: `denoiser.size`, where pydantic says `denoiser.dit.size`.

    Args:
        kind: The config class.
        location: As pydantic gives it: with the kinds that a union was chosen by, and the names of the types of other unions.
    """
    shown: list[int | str] = []
    candidates: list[Any] = [kind]
    for part in location:
        models = [model for candidate in candidates for model in _models_in(candidate)]
        chosen = [model for model in models if tag_of(model) == part]
        kinds = [one for candidate in candidates for one in alternatives(candidate)]
        values = [typing.get_args(one)[1] for one in kinds if typing.get_origin(one) in (dict, Mapping)]
        fields = [
            model.model_fields[part].annotation for model in models if isinstance(part, str) and part in model.model_fields
        ]
        if chosen and len(models) > 1:
            candidates = list(chosen)
        elif isinstance(part, int) or fields or values or not names_type(part):
            shown.append(part)
            candidates = fields or values or candidates
    return tuple(shown)


def names_type(part: int | str) -> bool:
    """Return whether a part of pydantic's location is the name of a type, as behind a setting that may be of several."""
    return isinstance(part, str) and _TYPE_NAME.match(part) is not None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return _models_in(annotation.__value__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def tag_of(model: type[BaseModel]) -> Any:
    """Return the `kind` that chooses this class in a union; None for a class without one."""
    field = model.model_fields.get("kind")
    return field.default if field is not None else None
