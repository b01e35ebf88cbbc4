"""What a run's report says about the run it started from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from open_ldm.pages.content import Part, Table
from open_ldm.run_folder.history import lookup
from open_ldm.run_folder.report.data import shown
from open_ldm.transfer_learning.receipt import ACTIONS, HEADER, Receipt

_MEANING = {
    "kept": "taken over number for number",
    "resampled": "brought to another grid",
    "new": "started as an untrained model's",
    "dropped": "of the source, without a place here",
}


@dataclass(frozen=True)
class Transferred:
    """Where a run started: its source in words, totals, settings that differ, and the fate of every tensor."""

    source: str
    totals: Table
    settings: Table
    changed: Table
    kept: Table


def transfer_part(transfer: Mapping[str, Any]) -> Part | None:
    """Of the content of transfer.json; None for a run that started from nothing."""
    content = transferred(transfer)
    return None if content is None else Part("Where it started", "run/transfer.html", content)


def transferred(transfer: Mapping[str, Any]) -> Transferred | None:
    """The content of transfer.json; None when it holds no receipt."""
    try:
        receipt = Receipt.from_json(transfer)
    except (KeyError, TypeError):
        return None
    found = lookup(transfer, "source")
    source = found if isinstance(found, Mapping) else {}
    rows = receipt.rows()
    changed = [row.cells() for row in rows if row.entry.action != "kept" or row.entry.reason]
    kept = [row.cells() for row in rows if row.entry.action == "kept" and not row.entry.reason]
    totals = [[action, f"{receipt.numbers(action):,}", _MEANING[action]] for action in ACTIONS]
    return Transferred(
        f"Started from {source.get('path', 'another run')} "
        f"({source.get('checkpoint', '?')}, {source.get('weights', '?')} weights).",
        Table(totals, ["fate", "numbers", "meaning"]),
        _settings(transfer.get("settings")),
        Table(changed, HEADER),
        Table(kept, HEADER),
    )


def _settings(settings: object) -> Table:
    pairs = settings.items() if isinstance(settings, Mapping) else ()
    rows = [
        [str(name), *("-" if value is None else shown(value) for value in both)]
        for name, both in pairs
        if isinstance(both, list) and len(both) == 2
    ]
    return Table(rows, ["setting", "source", "here"])
