"""The numbers of a setting as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.pages.labels import short_number
from open_ldm.studies.found import SettingFound, words_of
from open_ldm.studies.results import Summary, at


def table_of(found: SettingFound) -> tuple[list[str], list[list[str]]]:
    """Header and one row for each arm."""
    header = ["arm", "seeds", *(words_of(metric).title for metric in found.metrics)]
    rows = []
    for arm in found.arms:
        seeds = len({each.seed for each in found.measured if each.arm == arm})
        rows.append([arm, str(seeds), *(cell_of(found.summary(arm, metric)) for metric in found.metrics)])
    return header, rows


def table_at(found: SettingFound, metric: str, conditions: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and one row for each arm, of one metric at its conditions."""
    rows = [[arm, *(cell_of(found.summary(arm, at(metric, each))) for each in conditions)] for arm in found.arms]
    return ["arm", *conditions], rows


def cell_of(summary: Summary | None) -> str:
    """'mean ± spread [low, high]'."""
    if summary is None:
        return "–"
    spread = "" if summary.spread is None else f" ± {_digits(summary.spread)}"
    if summary.low == summary.high:
        return f"{_digits(summary.mean)}{spread}"
    return f"{_digits(summary.mean)}{spread} [{_digits(summary.low)}, {_digits(summary.high)}]"


def _digits(value: float) -> str:
    return short_number(float(f"{value:.3g}"))
