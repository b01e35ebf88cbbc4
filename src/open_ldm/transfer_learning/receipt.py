"""The receipt of a transfer: what became of every tensor, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Action = Literal["kept", "resampled", "new", "dropped"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Shape = tuple[int, ...]

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")


@dataclass(frozen=True)
class Entry:
    """What became of a tensor, or of some of its rows.

    Attributes:
        name: Of the tensor.
        action: What was done.
        source: Shape in the source; None where the source has no such tensor.
        target: Shape in the new model; None where the new model has none. Both shapes differ for what was resampled, and for a
            new tensor instead of one that did not fit.
        reason: Why; empty where the tensor was simply kept.
    """

    name: str
    action: Action
    source: Shape | None
    target: Shape | None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """Entries that differ in the number of a block alone, as one line; `names` is how many they are."""

    name: str
    names: int
    entry: Entry

    def cells(self) -> list[str]:
        """Cells of a table: tensor, action, both shapes, reason."""
        entry = self.entry
        return [self.name, entry.action, _shown(entry.source), _shown(entry.target), entry.reason]


@dataclass(frozen=True)
class Receipt:
    """Every tensor of the source and of the new model. Each number of either is in exactly one entry."""

    entries: tuple[Entry, ...]

    def numbers(self, action: Action) -> int:
        """Count the numbers that were kept, resampled or made new (in the new model), or dropped (in the source)."""
        shapes = [entry.source if action == "dropped" else entry.target for entry in self.entries if entry.action == action]
        return sum(math.prod(shape) for shape in shapes if shape is not None)

    def sentence(self) -> str:
        """Say how many numbers were kept, resampled, new and dropped: 'of 1,204 numbers 1,180 kept (98 %), ...'."""
        whole = max(1, sum(self.numbers(action) for action in ACTIONS if action != "dropped"))
        parts = [f"{self.numbers(a):,} {a} ({100 * self.numbers(a) / whole:.1f} %)" for a in ACTIONS if a != "dropped"]
        return f"of {whole:,} numbers {', '.join(parts)}; {self.numbers('dropped'):,} of the source dropped"

    def rows(self) -> list[Row]:
        """All entries in order, with equal entries of several blocks on one line: `denoiser.blocks.{0-11}.mlp.fc1.weight`."""
        groups: dict[tuple[Any, ...], list[str]] = {}
        for entry in self.entries:
            key = (_NUMBER.sub(".{}", entry.name, count=1), entry.action, entry.source, entry.target, entry.reason)
            groups.setdefault(key, []).append(entry.name)
        return [Row(_together(names), len(names), Entry(names[0], *key[1:])) for key, names in groups.items()]

    def to_json(self) -> dict[str, Any]:
        """Return plain data: totals, and every tensor."""
        numbers = {action: self.numbers(action) for action in ACTIONS}
        return {"numbers": numbers, "tensors": [asdict(entry) for entry in self.entries]}

    @classmethod
    def from_json(cls, content: Any) -> Receipt:
        """Read what `to_json` returned. Raises KeyError or TypeError for anything else."""
        return cls(tuple(_entry(**tensor) for tensor in content["tensors"]))


HEADER = ("tensor", "action", "source", "here", "reason")
"""Names of the cells of a row."""


def as_text(rows: Sequence[Row]) -> str:
    """Write rows as a table for a terminal."""
    cells = [list(HEADER), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER) - 1)]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([*(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)), cells[-1]]).rstrip()


def _entry(name: str, action: Action, source: Iterable[int] | None, target: Iterable[int] | None, reason: str) -> Entry:
    return Entry(name, action, None if source is None else tuple(source), None if target is None else tuple(target), reason)


def _shown(shape: Shape | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "1"


def _together(names: Sequence[str]) -> str:
    """One name for several that differ in their first number."""
    if len(names) == 1:
        return names[0]
    numbers = [int(found.group(1)) for name in names if (found := _NUMBER.search(name))]
    return _NUMBER.sub(f".{{{_ranges(numbers)}}}", names[0], count=1)


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> '0-2,5'."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
