"""What a run's report says about its data, read generically from data.json and health.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.pages.content import Fact, Part, Table
from open_ldm.run_folder.history import RunHistory, lookup

_MOST_ROWS = 12
_FIRST: Mapping[tuple[str, ...], str] = {("missing", "values"): "column"}
"""What stands over the names of rows, by the other heads of a table."""


@dataclass(frozen=True)
class Quotes:
    """Texts from the data."""

    title: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Counts:
    """A folded table."""

    title: str
    table: Table


@dataclass(frozen=True)
class Survey:
    """What a survey found, whatever it measured: single values, mappings with equal keys side by side, texts, longer lists."""

    facts: Sequence[Fact] = ()
    tables: Sequence[Table] = ()
    quotes: Sequence[Quotes] = ()
    counts: Sequence[Counts] = ()


@dataclass(frozen=True)
class DataSeen:
    """The source's own sentence and its survey. `bad`: pictures that could not be used; `health`: a sentence in its place."""

    sentence: str
    survey: Survey
    bad: Table
    health: str


def data_part(history: RunHistory) -> Part | None:
    """What data the run saw; None when nothing tells."""
    start = history.last("start")
    survey, bad = history.data.get("survey"), history.health.get("bad")
    content = DataSeen(
        sentence=str(history.data.get("sentence") or (start.text("data") if start else "")),
        survey=_survey(survey) if isinstance(survey, Mapping) else Survey(),
        bad=_bad(bad) if isinstance(bad, Mapping) and bad else Table(()),
        health=str(history.health["sentence"]) if history.health.get("sentence") and not bad else "",
    )
    return None if content == DataSeen("", Survey(), Table(()), "") else Part("Data", "run/data.html", content)


def _survey(survey: Mapping[str, Any]) -> Survey:
    """Any JSON object."""
    facts: list[Fact] = []
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    quotes: list[Quotes] = []
    counts: list[Counts] = []
    for name, value in survey.items():
        label = readable(name)
        if value == {}:
            continue
        if name == "columns" and isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values()):
            tables[("missing", "values")] = [_column_row(str(column), one) for column, one in value.items()]
        elif isinstance(value, Mapping) and len(value) <= _MOST_ROWS and all(map(_is_plain, value.values())):
            tables.setdefault(tuple(map(str, value)), []).append([label, *map(shown, value.values())])
        elif isinstance(value, Mapping):
            rows = [[str(key), shown(item)] for key, item in list(value.items())[:_MOST_ROWS]]
            more = [["…", f"{len(value) - _MOST_ROWS:,} more"]] if len(value) > _MOST_ROWS else []
            counts.append(Counts(f"{label} ({len(value):,})", Table(rows + more)))
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            quotes.append(Quotes(label[:1].upper() + label[1:], tuple(value[:_MOST_ROWS])))
        elif value is not None and value != []:
            facts.append(Fact(label, shown(value)))
    filled = tuple(Table(rows, [_FIRST.get(names, ""), *map(readable, names)]) for names, rows in tables.items())
    return Survey(tuple(facts), filled, tuple(quotes), tuple(counts))


def _column_row(name: str, column: Mapping[str, Any]) -> list[str]:
    """A column of metadata: its name, for how many pictures it is missing, and its range or its words with their counts."""
    quantiles, counts, unlisted = (lookup(column, key) for key in ("quantiles", "counts", "unlisted"))
    values = "none"
    if isinstance(quantiles, Mapping):
        low, median, high = (shown(lookup(quantiles, key)) for key in ("smallest", "median", "largest"))
        values = f"{low} to {high}, median {median}"
    elif isinstance(counts, Mapping) and counts:
        listed = [f"{word} {shown(count)}" for word, count in list(counts.items())[:_MOST_ROWS]]
        more = [f"{len(counts) - _MOST_ROWS:,} more"] if len(counts) > _MOST_ROWS else []
        values = ", ".join(listed + more)
    if isinstance(unlisted, Mapping) and unlisted:
        values += f"; not listed by the control: {shown(unlisted)}"
    return [name, f"{shown(lookup(column, 'missing'))} of {shown(lookup(column, 'pictures'))}", values]


def _bad(bad: Mapping[str, Any]) -> Table:
    rows: list[list[str]] = []
    for reason, found in bad.items():
        ids = lookup(found, "ids") if isinstance(found, Mapping) else found
        names = [str(name) for name in ids] if isinstance(ids, list) else []
        stated = lookup(found, "count") if isinstance(found, Mapping) else found
        count = stated if isinstance(stated, int) else len(names)
        rest = f", … ({count - 5:,} more)" if count > 5 and names else ""
        rows.append([str(reason), f"{count:,}", ", ".join(names[:5]) + rest])
    return Table(rows, ["reason", "count", "first of them"])


def readable(name: str) -> str:
    """'short_side_px' -> 'short side px'."""
    return str(name).replace("_", " ")


def shown(value: Any) -> str:
    """A JSON value in few letters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{readable(name)} {shown(item)}" for name, item in value.items())
    return ", ".join(map(shown, value)) if isinstance(value, list) else str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str)
