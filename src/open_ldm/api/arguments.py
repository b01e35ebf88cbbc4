"""Whether the arguments of a call are what its function says that it takes: one rule for all public functions, by their hints.

What means the same is brought into that form: numbers of numpy and torch, arrays as lists, `~`, a run in the place of its path.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from open_ldm.core.errors import ConfigError, choice_of, cut
from open_ldm.core.plain_data import plain_number

Place = str | os.PathLike[str]
"""A path, as text or as anything that has one: a `Path`, or a `Run`."""

_GIVEN_AS_LIST = "give its items one after the other, with * before the list"


class _MisfitError(Exception):
    """A value that is not of a kind."""


def fitted(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call as its function takes them. Those in `**` are left to the function.

    Raises:
        ConfigError: One is of another kind than its hint says, or is an empty text in the place of a path.
    """
    signature, hints = _declared(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # too many or unknown ones, of which Python itself tells
        return list(args), dict(kwargs)
    for name, value in bound.arguments.items():
        kind, hint = signature.parameters[name].kind, hints.get(name, Any)
        if kind is inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(_argument(name, one, hint, _fix_of_several(one)) for one in value)
        elif kind is not inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = _argument(name, value, hint)
    return list(bound.args), dict(bound.kwargs)


def several(given: Any) -> list[Any]:
    """Return one thing or several as a list; None is none."""
    if given is None:
        return []
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


@cache
def _declared(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(function), get_type_hints(function)


def _argument(name: str, value: Any, hint: Any, fix: str = "") -> Any:
    try:
        return _as_kind(name, value, hint)
    except _MisfitError:
        words = [word for kind in _alternatives(hint) if get_origin(kind) is Literal for word in get_args(kind)]
        if words and isinstance(value, str):
            return choice_of(name, value, words)
        shown = cut(" ".join(repr(value).split()))
        raise ConfigError(f"{name}={shown} cannot be used", needed=_in_words(hint), fix=fix) from None


def _fix_of_several(given: Any) -> str:
    return _GIVEN_AS_LIST if isinstance(given, list | tuple) else ""


def _as_kind(name: str, value: Any, hint: Any) -> Any:
    """Return a value as the first of the alternatives of a hint that it fits. Raises _MisfitError for none."""
    kinds = list(_alternatives(hint))
    if isinstance(value, str) and any(get_origin(kind) is os.PathLike for kind in kinds):
        if not value.strip():
            raise ConfigError(f"{name}={value!r} is empty", needed="a path or a name", fix="leave it out, or name one")
        return _expanded(value)
    for kind in kinds:
        try:
            return _as_one(name, value, kind)
        except _MisfitError:
            continue
    raise _MisfitError


def _as_one(name: str, value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind) or kind
    if origin is os.PathLike:
        return Path(_expanded(os.fspath(_of(value, os.PathLike))))
    if origin is Sequence:
        return [_as_kind(name, one, get_args(kind)[0]) for one in _items(value)]
    if origin is Literal:
        return _only(value, isinstance(value, str) and value in get_args(kind))
    if origin in (int, float, bool):
        return _as_number(plain_number(value), origin)
    return _of(value, origin)


def _expanded(path: str) -> str:
    """A path with its home folder for `~`; a name of anything else, such as a user who is not here, stays as it is."""
    with suppress(RuntimeError):
        return str(Path(path).expanduser()) if path.startswith("~") else path
    return path


def _only(value: Any, fits: bool) -> Any:
    if not fits:
        raise _MisfitError
    return value


def _of(value: Any, kind: type[Any]) -> Any:
    return _only(value, isinstance(value, kind))


def _items(value: Any) -> Sequence[Any]:
    """The items of a list, or of an array of numpy, torch or pandas."""
    if not isinstance(value, Sequence) and callable(listed := getattr(value, "tolist", None)):
        value = listed()
    return list(_only(value, isinstance(value, Sequence) and not isinstance(value, str | bytes)))


def _as_number(value: Any, kind: type[int] | type[float] | type[bool]) -> float:
    """A number as one of a kind: 2.0 is a whole number, 1 is True, and True is no number."""
    if kind is bool:
        return bool(_only(value, isinstance(value, int) and value in (0, 1)))
    _only(value, isinstance(value, int | float) and not isinstance(value, bool))
    if kind is int and isinstance(value, float):
        return int(_only(value, value.is_integer()))
    return value  # type: ignore[no-any-return]  # a number, as was just seen


def _alternatives(hint: Any) -> Iterator[Any]:
    """The kinds of a hint, those of unions inside it one by one."""
    origin = get_origin(hint)
    if origin is Annotated or origin in (Union, UnionType):
        for one in get_args(hint)[: 1 if origin is Annotated else None]:
            yield from _alternatives(one)
    else:
        yield hint


def _in_words(hint: Any) -> str:
    *words, last = dict.fromkeys(_words(_alternatives(hint)))
    return f"{', '.join(words)} or {last}" if words else last


def _words(kinds: Iterable[Any]) -> Iterator[str]:
    plain = {str: "text", int: "a whole number", float: "a number", bool: "True or False", NoneType: "None"}
    of_origin = {os.PathLike: "a path", Sequence: "a list", Mapping: "a mapping"}
    for kind in kinds:
        origin = get_origin(kind) or kind
        if origin is Literal:
            yield from map(str, get_args(kind))
        elif isinstance(origin, type) and issubclass(origin, BaseModel) and origin.__name__.endswith("Config"):
            yield "a config"
        else:
            yield plain.get(origin) or of_origin.get(origin) or f"a {origin.__name__}"
