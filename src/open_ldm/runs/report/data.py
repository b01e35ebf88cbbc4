"""What a run's report says about its data, read generically from data.json and health.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.history import RunHistory, lookup
from open_ldm.runs.report.sections import section, table

_MOST_ROWS = 12


def data_section(record: RunHistory) -> Markup:
    """What data the run saw: the source's sentence, the survey, and the pictures that could not be used."""
    start = record.last("start")
    sentence = str(record.data.get("sentence") or (start.text("data") if start else ""))
    survey = record.data.get("survey")
    health = record.health
    bad = health.get("bad")
    return section(
        "Data",
        element("p", sentence) if sentence else Markup(),
        _survey(survey) if isinstance(survey, Mapping) else Markup(),
        _bad(bad) if isinstance(bad, Mapping) and bad else Markup(),
        element("p", str(health["sentence"]), class_="note") if health.get("sentence") and not bad else Markup(),
    )


def _survey(survey: Mapping[str, Any]) -> Markup:
    """Any JSON object: single values as facts, mappings of numbers with equal keys as one table, texts as a list."""
    facts: list[Markup] = []
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    lists: list[Markup] = []
    for name, value in survey.items():
        label = readable(name)
        if isinstance(value, Mapping) and len(value) <= _MOST_ROWS and all(map(_is_plain, value.values())):
            tables.setdefault(tuple(map(str, value)), []).append([label, *map(shown, value.values())])
        elif isinstance(value, Mapping):
            rows = [[str(key), shown(item)] for key, item in list(value.items())[:_MOST_ROWS]]
            more = [["…", f"{len(value) - _MOST_ROWS:,} more"]] if len(value) > _MOST_ROWS else []
            lists.append(element("details", element("summary", f"{label} ({len(value):,})"), table(rows + more)))
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            quoted = joined(element("li", item) for item in value[:_MOST_ROWS])
            lists += [element("h3", label[:1].upper() + label[1:]), element("ul", quoted, class_="quotes")]
        elif value is not None and value != []:
            facts.append(element("div", element("dt", label), element("dd", shown(value))))
    filled = [table(rows, ["", *map(readable, names)]) for names, rows in tables.items()]
    return joined([element("dl", *facts, class_="facts") if facts else Markup(), *filled, *lists])


def _bad(bad: Mapping[str, Any]) -> Markup:
    rows: list[list[str]] = []
    for reason, found in bad.items():
        ids = lookup(found, "ids") if isinstance(found, Mapping) else found
        names = [str(name) for name in ids] if isinstance(ids, list) else []
        told = lookup(found, "count") if isinstance(found, Mapping) else found
        count = told if isinstance(told, int) else len(names)
        rest = f", … ({count - 5:,} more)" if count > 5 and names else ""
        rows.append([str(reason), f"{count:,}", ", ".join(names[:5]) + rest])
    head = element("h3", "Pictures that could not be used")
    return joined([head, table(rows, ["reason", "count", "first of them"])])


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
