"""The settings in which runs differ, and names of runs that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.core.config import flattened
from open_ldm.core.errors import cut
from open_ldm.run_folder.recipe_schema import of_its_day

_LEFT_OUT = ("name", "recipe_schema")
_MOST_IN_A_NAME = 2
_VALUE_LENGTH = 24
ABSENT = "–"


@dataclass(frozen=True)
class Differing:
    """One setting, and its value in each run as text; `ABSENT` in one that lacks it."""

    setting: str
    values: tuple[str, ...]


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[Differing]:
    """Return the settings in which recipes differ, in the order of the first that has them; a recipe's name is none.

    Recipes of earlier schemas are read with the defaults of their day, so that what means the same is no difference.
    """
    flat = [{name: str(value) for name, value in flattened({"edition": 1, **of_its_day(one)}).items()} for one in configs]
    keys = dict.fromkeys(key for one in flat for key in one if key not in _LEFT_OUT)
    rows = [Differing(key, tuple(one.get(key, ABSENT) for one in flat)) for key in keys]
    return [row for row in rows if len(set(row.values)) > 1]


def names_by_settings(names: Sequence[str], differing: Sequence[Differing]) -> list[str]:
    """Return the names with what differs behind them, where that is one setting or two: 'a (alpha=8)'."""
    if not 0 < len(differing) <= _MOST_IN_A_NAME:
        return list(names)
    words = _shortest([one.setting for one in differing])
    told = [
        ", ".join(f"{word}={cut(one.values[place], _VALUE_LENGTH)}" for word, one in zip(words, differing, strict=True))
        for place in range(len(names))
    ]
    return [f"{name} ({said})" for name, said in zip(names, told, strict=True)]


def _shortest(settings: Sequence[str]) -> list[str]:
    """The ends of the settings' names that tell them apart."""
    parts = [setting.split(".") for setting in settings]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = [".".join(one[-depth:]) for one in parts]
        if len(set(ends)) == len(ends):
            break
    return ends
