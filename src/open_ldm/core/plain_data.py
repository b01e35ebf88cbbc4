"""JSON and YAML from outside, read within limits, and JSON written so that every parser can read it.

A file may be small and yet ask for endless work: nesting, aliases, numbers of thousands of digits. What is beyond a limit is
refused in one line. JSON has no NaN and no infinity: they are refused where they are read, and written as the texts "nan",
"inf" and "-inf", which `float` reads back.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_JSON_BYTES = 256 << 20
"""A manifest with a million names has some tens of megabytes."""
MOST_YAML_BYTES = 512 << 10
MOST_DEPTH = 64
MOST_ALIASES = 64
MOST_VALUES = 200_000
"""Of YAML, every alias counted as what it stands for."""
MOST_DIGITS = 38

_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.(inf|Inf|INF))$|\.[0-9][0-9_]*([eE][-+][0-9]+)?$|\.(nan|NaN|NAN)$"
    ),
}
"""The numbers of YAML 1.1 but for those of base 60, as PyYAML knows them: what it writes without quotes must stay text."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_YAML_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises besides its own errors, such as for `!!int text`."""


class PlainDataError(ValueError):
    """Text that is not JSON or YAML, or is beyond a limit."""


class TwiceError(PlainDataError):
    """A name that an object gives twice, of which a parser would keep the last one."""


def parse_json(text: str | bytes, *, most_bytes: int = MOST_JSON_BYTES, finite: bool = True, every_value: bool = True) -> Any:
    """Read JSON strictly.

    Args:
        text: The JSON; bytes are UTF-8.
        most_bytes: Its largest size.
        finite: Refuse NaN and infinity. False is for files of our own from before they were written as text.
        every_value: Look at each value. False is for files of our own with millions of them, whose hash is compared next.

    Raises:
        PlainDataError: It is no JSON, gives a name twice, or is beyond a limit of this file.
    """
    if len(text) > most_bytes:
        raise PlainDataError(f"{len(text):,} bytes are more than {most_bytes:,}")
    try:
        content = json.loads(text, object_pairs_hook=_each_once, parse_constant=_refuse if finite else None)
    except RecursionError:
        raise PlainDataError(f"it is nested deeper than {MOST_DEPTH} levels") from None
    except PlainDataError:
        raise
    except ValueError as error:
        raise PlainDataError(f"{error}") from error
    if every_value:
        _check(content, finite=finite)
    return content


def parse_yaml_value(text: str, *, as_written: bool = False) -> Any:
    """Read any YAML.

    Args:
        text: The YAML; dates stay text.
        as_written: Every scalar is the text that stands there.

    Raises:
        yaml.YAMLError: It is no YAML; the error knows the line. NoBlankError for `{a:b}`.
        PlainDataError: It is beyond a limit of this file, or a value is none of its stated kind.
    """
    if len(text) > MOST_YAML_BYTES:
        raise PlainDataError(f"{len(text):,} bytes are more than {MOST_YAML_BYTES:,}")
    try:
        content = yaml.load(text, _AsWritten if as_written else YamlLoader)
    except RecursionError:
        raise PlainDataError(f"it is nested deeper than {MOST_DEPTH} levels") from None
    except PlainDataError:
        raise
    except _YAML_ERRORS as error:
        raise PlainDataError(f"a value cannot be read ({error})") from error
    _check(content, most_values=MOST_VALUES)
    return content


class NoBlankError(yaml.MarkedYAMLError):
    """`{a:b}` in YAML, which means `{a: b}`. Its `note` is the fix."""

    def __init__(self, key: yaml.ScalarNode) -> None:
        name, _, value = key.value.partition(":")
        problem = f"{key.value!r} has no blank behind its colon"
        super().__init__(problem=problem, problem_mark=key.start_mark, note=f"a blank behind the colon, {name}: {value}")


class _Bounded(yaml.SafeLoader):
    """Composes YAML within limits, and refuses a key that a mapping has twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, counting aliases and levels."""
        self._aliases += self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            self._fail(f"it is nested deeper than {MOST_DEPTH} levels")
        if self._aliases > MOST_ALIASES:
            self._fail(f"it has more than {MOST_ALIASES} aliases")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping whose keys differ."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(names)) < len(names):
            twice = _twice(names)
            mark = [key.start_mark for key, _ in node.value if key.value == twice][-1]
            raise yaml.MarkedYAMLError(problem=f"the key {twice!r} is given twice", problem_mark=mark)
        for key, value in node.value if node.flow_style else ():
            if _lacks_blank(key, value):
                raise NoBlankError(key)
        return node

    def _fail(self, problem: str) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())


class YamlLoader(_Bounded):
    """YAML without dates and times, which no setting is: 2024-01-02 is text, and so is 1:30, which YAML 1.1 takes for 90."""

    yaml_implicit_resolvers = {
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take over what `<<` names; each level could multiply the entries."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES // MOST_ALIASES:
            raise PlainDataError(f"<< grows to more than {MOST_VALUES // MOST_ALIASES:,} entries")


class _AsWritten(_Bounded):
    """Every scalar is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a scalar as its text, whatever its tag says."""
        return node.value if isinstance(node, yaml.ScalarNode) else super().construct_object(node, deep)


def _lacks_blank(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether `{a:b}` stands there, which YAML takes for the key `a:b` without a value."""
    is_empty = isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None
    return is_empty and isinstance(key, yaml.ScalarNode) and key.style is None and ":" in key.value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise TwiceError(_twice([name for name, _ in pairs]))
    return content


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _refuse(constant: str) -> Any:
    raise PlainDataError(f"{constant} is no number of JSON")


def _check(content: Any, *, finite: bool = True, most_values: float = math.inf) -> None:
    """Walk through what was read, level by level, so that nothing is followed deeper or longer than the limits allow."""
    level, seen = [content], 0
    for _ in range(MOST_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            seen += 1
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list | tuple | set):
                inner.extend(value)
            elif isinstance(value, float):
                if finite and not math.isfinite(value):
                    raise PlainDataError(f"{value} is not a finite number")
            elif isinstance(value, int) and value.bit_length() > MOST_DIGITS * math.log2(10):
                raise PlainDataError(f"a number has more than {MOST_DIGITS} digits")
            if seen + len(inner) > most_values:
                raise PlainDataError(f"it grows to more than {most_values:,} values")
        if not inner:
            return
        level = inner
    raise PlainDataError(f"it is nested deeper than {MOST_DEPTH} levels")


def to_json(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Write JSON that any parser reads and any terminal shows: no NaN, and controls of terminals escaped.

    Args:
        content: Text, numbers, one-element tensors, paths, lists and mappings of these.
        indent: Spaces of each level; None writes one line.
        default: Makes plain data of anything else.
    """
    text = json.dumps(plain(content), indent=indent, ensure_ascii=False, allow_nan=False, default=default)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: Any) -> Any:
    """Convert `value` to what JSON can hold; non-finite floats become "nan", "inf", "-inf"."""
    if hasattr(value, "item"):  # numpy and torch scalars, without importing either
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def plain_number(value: Any) -> Any:
    """Return a number of numpy or torch, or a tensor without dimensions, as a number of Python; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value
