"""The part of a run's report that shows what was measured of it, from evaluation.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import read_json_object
from open_ldm.evaluation.protocol import MeasurementProtocol
from open_ldm.evaluation.stored import FILE, Stored, stored_results
from open_ldm.pages.content import Part, Table


@dataclass(frozen=True)
class ShownProtocol:
    """Everything that decides a number, as a table."""

    id: str
    metric: str
    entries: Table


@dataclass(frozen=True)
class Evaluated:
    """Values with their intervals, the newest first; what to know before quoting them; and their protocols."""

    values: Table
    notes: Sequence[str]
    protocols: Sequence[ShownProtocol]


def evaluation_part(folder: Path, samples_seen: int) -> Part | None:
    """What evaluation.json of a run holds, whose training has come to `samples_seen`; None without results.

    Of a damaged file the page says that it cannot be read.
    """
    try:
        kept = stored_results(folder)
    except ConfigError as error:
        return Part("Evaluation", "run/evaluation.html", Evaluated(Table([]), [error.one_line()], []))
    if not kept:
        return None
    stored = [one for one in kept if _is_whole(one)]
    newest = sorted(stored, key=lambda one: one.measured, reverse=True)
    header = ["metric", "value", "interval", "pictures", "features", "after samples", "measured (UTC)", "protocol"]
    measured = [one.result.protocol for one in newest]
    notes = _notes(folder, newest, samples_seen)
    if len(stored) < len(kept):
        notes.append(f"{len(kept) - len(stored)} of {len(kept)} values in {FILE} are no numbers and are not shown.")
    content = Evaluated(Table([_row(one) for one in newest], header), notes, protocols(measured))
    return Part("Evaluation", "run/evaluation.html", content)


def protocols(measured: Sequence[MeasurementProtocol]) -> list[ShownProtocol]:
    """Each once, in the order in which they are first used."""
    by_id = {protocol.id: protocol.entries for protocol in measured}
    return [
        ShownProtocol(name, str(entries.get("metric", "")), Table([[str(key), str(text)] for key, text in entries.items()]))
        for name, entries in by_id.items()
    ]


def _row(one: Stored) -> list[str]:
    estimate, entries = one.result.estimate, one.result.protocol.entries
    return [
        str(estimate.name),
        f"{estimate.value:.4g}",
        f"{estimate.low:.4g} to {estimate.high:.4g}",
        f"{estimate.count:,}",
        str(entries.get("extractor.name", "–")),
        "–" if one.samples_seen is None else f"{one.samples_seen:,}",
        one.measured[:16].replace("T", " "),
        one.result.protocol.id,
    ]


def _notes(folder: Path, stored: Sequence[Stored], samples_seen: int) -> list[str]:
    notes = list(
        dict.fromkeys(f"{one.result.estimate.name}: {text}." for one in stored for text in one.result.estimate.warnings)
    )
    earlier = sorted({one.samples_seen for one in stored if one.samples_seen is not None} - {samples_seen})
    if earlier and samples_seen:
        seen = ", ".join(f"{each:,}" for each in earlier)
        notes.append(f"Measured after {seen} samples; the run has seen {samples_seen:,}.")
    refused = _refused(folder)
    return notes + [f"Not measured: {name}: {reason}" for name, reason in refused.items()]


def _refused(folder: Path) -> Mapping[str, Any]:
    """Metrics of the newest evaluation that gave no number, with the reason."""
    refused = read_json_object(folder / FILE).get("refused")
    return refused if isinstance(refused, Mapping) else {}


def _is_whole(one: Stored) -> bool:
    """Whether all numbers are numbers; a file that was edited may hold anything."""
    estimate = one.result.estimate
    numbers = (estimate.value, estimate.low, estimate.high)
    finite = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
    return finite and isinstance(estimate.count, int) and isinstance(one.samples_seen, int | None)
