"""An evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from open_ldm.evaluation.protocol import Result

if TYPE_CHECKING:
    from open_ldm.commands.evaluate.found import Evaluation

HEADER = ("metric", "value", "interval", "n", "extractor", "protocol")


def text_of(found: Evaluation) -> str:
    """The table, then warnings, refusals and where things lie."""
    lines = aligned([HEADER, *map(row_of, found.results)])
    for warning in dict.fromkeys(text for result in found.results for text in result.estimate.warnings):
        lines.append(f"note: {warning}")
    for protocol, reason in found.refused.items():
        lines.append(f"refused: {reason if protocol.split('(')[0] in reason else f'{protocol}: {reason}'}")
    if found.influence:
        lines.append("mean distance of pictures of the same seed under two values of the control:")
        lines += [f"  {pair.replace('|', ' and ')}: {value:.4g}" for pair, value in found.influence.items()]
    if found.neighbours is not None:
        lines.append(found.neighbours.text())
    for what, path in (("nearest pairs", found.sheet), ("kept in", found.file)):
        if path is not None:
            lines.append(f"{what}: {path}")
    return "\n".join(lines)


def row_of(result: Result) -> tuple[str, ...]:
    """One line of the table."""
    one, extractor = result.estimate, result.protocol.entries.get("extractor.name", "")
    return (
        one.name,
        f"{one.value:.4g}",
        f"[{one.low:.4g}, {one.high:.4g}]",
        f"{one.count:,}",
        extractor,
        result.protocol.id,
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
