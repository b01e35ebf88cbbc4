"""Results as rows of a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.evaluation.protocol import Result

HEADER = ("metric", "value", "interval", "n", "extractor", "protocol")


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
