"""What a run's report says about the run it started from."""

from __future__ import annotations

from collections.abc import Mapping

from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.history import RunHistory, lookup
from open_ldm.runs.report.data import shown
from open_ldm.runs.report.sections import section, table
from open_ldm.transfer.receipt import ACTIONS, HEADER, Receipt

_MEANING = {
    "kept": "taken over number for number",
    "resampled": "brought to another grid",
    "new": "started as an untrained model's",
    "dropped": "of the source, without a place here",
}


def transfer_section(record: RunHistory, *, titled: bool = True) -> Markup:
    """Source, totals, settings that differ, and the fate of every tensor; empty for a run that started from nothing."""
    try:
        receipt = Receipt.from_json(record.transfer)
    except (KeyError, TypeError):
        return Markup()
    source = lookup(record.transfer, "source")
    told = source if isinstance(source, Mapping) else {}
    words = (
        f"Started from {told.get('path', 'another run')} ({told.get('checkpoint', '?')}, {told.get('weights', '?')} weights)."
    )
    totals = [[action, f"{receipt.numbers(action):,}", _MEANING[action]] for action in ACTIONS]
    rows = receipt.rows()
    changed = [row.cells() for row in rows if row.entry.action != "kept" or row.entry.reason]
    kept = [row.cells() for row in rows if row.entry.action == "kept" and not row.entry.reason]
    content = [
        element("p", words),
        table(totals, ["fate", "numbers", ""]),
        _settings(record.transfer.get("settings")),
        _folded(f"Tensors that changed ({len(changed)} lines)", changed),
        _folded(f"Tensors that were simply kept ({len(kept)} lines)", kept),
    ]
    return section("Where it started", *content) if titled else joined(content)


def _folded(summary: str, rows: list[list[str]]) -> Markup:
    return element("details", element("summary", summary), table(rows, HEADER)) if rows else Markup()


def _settings(settings: object) -> Markup:
    if not isinstance(settings, Mapping) or not settings:
        return Markup()
    rows = [
        [str(name), *("-" if value is None else shown(value) for value in both)]
        for name, both in settings.items()
        if isinstance(both, list) and len(both) == 2
    ]
    return joined([element("h3", "Settings that differ"), table(rows, ["setting", "source", "here"])])
