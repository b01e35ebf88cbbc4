"""Damage to inputs for `fuzz.py`, and which lines of open_ldm an input reaches."""

from __future__ import annotations

import copy
import random
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import open_ldm

OURS = str(Path(open_ldm.__file__).parent)
INTERESTING = (
    b"\0",
    b"\xff",
    b"\xff\xd8",
    b"NaN",
    b"1e400",
    b"-1",
    b"9" * 50,
    b"[" * 80,
    b"{",
    b"}",
    b'"',
    b"\\ud800",
    b"\x1b[2J",
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.0, -0.5, 1e-320, 1e300, float("nan"), float("inf"), float("-inf")),
    *("", " ", "nan", "1e400", "true", "1:30", "0x10", "../../x", "/", "~", "a\0b", "\x1b[2J", "\ud800", "x" * 5000, "é"),
    *([], [[]], {}, [None], [1, "a"], {"kind": "x"}, {"kind": None}, {"a": {"b": 1}}, {1: 2}),
)
"""Values that no setting expects, of every type that a file can hold. Texts are long or strange, and none of them acts."""


class NonsenseError(Exception):
    """Something was accepted that makes no sense."""


class Lines:
    """The lines of open_ldm that ran while this was active, and how many of them are new."""

    def __init__(self) -> None:
        self.known: set[tuple[CodeType, int]] = set()
        self.new = 0

    def __enter__(self) -> Lines:
        self.new, self._before = 0, sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(OURS) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and (place := (frame.f_code, frame.f_lineno)) not in self.known:
            self.known.add(place)
            self.new += 1
        return self._line


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    """Change a few places of a file: flip, remove, repeat, overwrite, insert."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 2, 4, 16, 64))
        match draw.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                changed[at : at + length] = draw.choice(INTERESTING)
            case 4:
                changed[at:at] = draw.choice(INTERESTING)
            case _:
                changed[at : at + length] = draw.randbytes(length)
    return bytes(changed) if draw.random() > 0.05 else bytes(changed[: draw.randrange(len(changed) + 1)])


def mutated_tree(tree: Any, draw: random.Random) -> Any:
    """Change a few places of nested settings: another value, a key that is renamed, removed or moved, a list that is longer."""
    changed = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return changed
        holder, key = draw.choice(places)
        match draw.randrange(7):
            case 0 if isinstance(holder, dict):
                holder[f"{key}{draw.choice(('s', '_', ' ', '.x'))}"] = holder.pop(key)
            case 1:
                del holder[key]
            case 2:
                other, at = draw.choice(places)
                holder[key] = copy.deepcopy(other[at]) if _has(other, at) else None
            case 3 if isinstance(holder[key], list):
                holder[key] = holder[key] * draw.choice((2, 50))
            case 4 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = holder[key] * draw.choice((-1, 0, 2, 0.5, 1e9, 1e-9))
            case 5 if isinstance(holder[key], dict):
                holder[key][draw.choice(("extra", "kind", "path", "0", "<<"))] = draw.choice(ODD)
            case _:
                holder[key] = draw.choice(ODD)
    return changed


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(tree: Any) -> Any:
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in pairs:
        yield tree, key
        yield from _places(value)
