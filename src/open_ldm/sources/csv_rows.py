"""Rows of CSV files as spreadsheets and scripts write them: commas, semicolons or tabs, blanks behind them, empty rows."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.errors import DataError, shortened
from open_ldm.core.plain_data import parse_json
from open_ldm.data.columns import MISSING_NUMBERS
from open_ldm.sources.near_misses import near_columns

_SEPARATORS = (",", ";", "\t")
_UNNAMED = "column "
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})(\.0+)?")
"""A whole number that a class could have; other spellings, such as 01, are names, so that no two become one class."""
_NO_CAPTION = frozenset(["NaN", "<NA>"])
"""As R and pandas write them; in other spellings they may be words."""


def csv_rows(text: str, path: Path, names: Mapping[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the rows of a CSV file with their line numbers.

    Rows without a value are left out; a column without a name, as tables with an index have, is called by its position. A cell
    is text; the label is a number where all labels are whole numbers, and a caption that is a JSON list is that list.

    Args:
        text: The file's content.
        path: The file, for messages.
        names: Names of columns by role, where they are called otherwise.

    Raises:
        DataError: There is no column of file names, a column is there twice, or a line does not fit.
    """
    file_name, label, caption = (names.get(role, role) for role in ("file_name", "label", "text"))
    rows = list(_table(text, path, names, file_name))
    empty = [name for name in rows[0][1] if name.startswith(_UNNAMED) and not any(row[name] for _, row in rows)] if rows else []
    given = [found for _, row in rows if (found := row.get(label, "").strip())]
    whole = [one for one in given if _WHOLE.fullmatch(one)]
    numeric = bool(whole) and all(one.lower() in MISSING_NUMBERS for one in {*given} - {*whole})
    for line, row in rows:
        content: dict[str, Any] = {name: cell for name, cell in row.items() if name not in empty}
        if label in row:
            content[label] = _number(row[label].strip()) if numeric else row[label].strip()
        if caption in row:
            content[caption] = _listed(row[caption])
        yield line, content


def _table(text: str, path: Path, names: Mapping[str, str], file_name: str) -> Iterator[tuple[int, dict[str, str]]]:
    heads = {separator: _head(text, separator) for separator in _SEPARATORS}
    separator = next((one for one, head in heads.items() if file_name in head), ",")
    columns = heads[separator]
    if file_name not in columns:
        widest = max(heads.values(), key=len)
        needed = f"{file_name}; found {shortened(widest or ['nothing'])}"
        raise DataError(f"{path} has no column {file_name}", needed=needed, fix=near_columns(widest, names, ("file_name",)))
    columns = [name or f"{_UNNAMED}{number}" for number, name in enumerate(columns, start=1)]
    if len(set(columns)) < len(columns):
        raise DataError(f"{path} has two columns {_twice(columns)!r}", fix="keep one of them, or rename one")
    reader = _reader(text, separator)
    try:
        next(reader)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise DataError(f"{path} line {reader.line_num} does not have one value per column", fix="correct that line")
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not CSV: {error}", fix="correct that line") from error


def _reader(text: str, separator: str) -> Any:
    """Return a reader. Blanks behind separators are no part of the values where the names of the columns have them."""
    first = text.partition("\n")[0]
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=f"{separator} " in first
    )


def _head(text: str, separator: str) -> list[str]:
    try:
        return [name.strip() for name in next(_reader(text, separator), [])]
    except csv.Error:
        return []


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _number(label: str) -> int | None:
    return int(label.partition(".")[0]) if _WHOLE.fullmatch(label) else None


def _listed(cell: str) -> str | list[Any]:
    """Return a cell with a JSON list of captions as that list, '' for what programs write for a missing one, else the cell."""
    if cell.strip() in _NO_CAPTION:
        return ""
    if cell.startswith("["):
        try:
            content = parse_json(cell, finite=False)
        except ValueError:
            return cell
        return content if isinstance(content, list) else cell
    return cell
