"""Reading `metadata.jsonl`, `.csv` and `.parquet`: one row per picture, read strictly; errors name the line."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from open_ldm.core.errors import DataError, shortened
from open_ldm.core.extras import need
from open_ldm.core.plain_data import PlainDataError, TwiceError, parse_json
from open_ldm.data.columns import MISSING_NUMBERS, Columns, Given, flat
from open_ldm.data.sample import printable
from open_ldm.sources.captions import decode_text
from open_ldm.sources.csv_rows import csv_rows
from open_ldm.sources.near_misses import near_columns

METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Names of metadata, in small or capital letters."""
ROLES = ("file_name", "text", "label", "original_height", "original_width")
"""What a column can be."""

_MOST_SIDE_PX = 2**31 - 1
_NO_SIZE = MISSING_NUMBERS | {""}
_MOST_ROW_BYTES = 4 << 20


@dataclass(frozen=True)
class MetadataRow:
    """What metadata say about one picture. `file_name` is relative to the folder; `original_size` is (height, width).

    `content` has the whole row, with nested names joined by dots.
    """

    file_name: str
    captions: tuple[str, ...]
    label: int | str | None
    original_size: tuple[int, int] | None
    content: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Metadata:
    """The rows of a file, sorted by file name, and `unread`: which setting would read captions or labels of other columns.

    `names`: of all columns in their order. `roles`: those that are file names, captions, labels or sizes. `untyped`: values are
    texts, as in CSV.
    """

    rows: tuple[MetadataRow, ...]
    unread: str = ""
    names: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    untyped: bool = False

    def columns(self, rows: Iterable[MetadataRow]) -> Columns:
        """Return the columns of pictures, given by their rows in order; file names and captions are none."""
        ordered = list(rows)
        names = [name for name in self.names if name not in (self.roles["file_name"], self.roles["text"])]
        values = {name: [row.content.get(name) for row in ordered] for name in names}
        return Columns(names, Given(values, untyped=self.untyped), self.roles.values())


def read_metadata(path: Path, columns: Mapping[str, str] | None = None) -> Metadata:
    """Read the rows of metadata.

    Args:
        path: The file.
        columns: The name of the column for each of `ROLES` whose column is called something else.

    Raises:
        DataError: The file cannot be read; the error names the line that is malformed or repeats a file.
        MissingExtraError: The file is parquet and pyarrow is not installed.
    """
    names = dict(columns or {})
    if path.suffix.lower() == ".parquet":
        lines: Iterable[tuple[int, Mapping[str, Any]]] = _parquet_rows(path)
    else:
        text = _text_of(path)
        lines = csv_rows(text, path, names) if path.suffix.lower() == ".csv" else _json_lines(text, path)
    rows: dict[str, MetadataRow] = {}
    present: dict[str, None] = {}
    for line, content in lines:
        where = f"{path} line {line}"
        row = parse_row(content, where, names)
        present.update(dict.fromkeys(row.content))
        if row.file_name in rows:
            raise DataError(f"{where} names {row.file_name} again", fix="give all captions of a picture in one list")
        rows[row.file_name] = row
    if not rows:
        raise DataError(f"{path} has no rows", needed="one row per picture with file_name")
    if absent := sorted(set(names.values()) - present.keys()):
        raise DataError(
            f"{path} has no column {absent[0]}", needed=f"one of {shortened(sorted(present))}", fix="data.source.columns"
        )
    missing = [role for role in ("text", "label") if names.get(role, role) not in present]
    near = near_columns(present, names, missing)
    return Metadata(
        tuple(rows[name] for name in sorted(rows)),
        f"columns not read; to read them: {near}" if near else "",
        tuple(present),
        {role: names.get(role, role) for role in ROLES},
        untyped=path.suffix.lower() == ".csv",
    )


def _text_of(path: Path) -> str:
    try:
        return decode_text(path.read_bytes())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def stored_name(name: str, stored: Collection[str]) -> str:
    """Find `name` among `stored`, also in another Unicode normal form; return `name` itself when it is not there.

    Disks and archives may decompose accents that editors compose, or the other way round. Programs on Windows write
    backslashes between folders.
    """
    for spelt in (name, name.replace("\\", "/")):
        forms = (spelt, unicodedata.normalize("NFC", spelt), unicodedata.normalize("NFD", spelt))
        if (found := next((form for form in forms if form in stored), None)) is not None:
            return found
    return name


def parse_row(content: Mapping[str, Any], where: str, columns: Mapping[str, str] | None = None) -> MetadataRow:
    """Check one row. Raises DataError with a message that begins with `where`."""
    names, whole = columns or {}, flat(content)
    content = {**whole, **content}

    def column(role: str) -> str:
        return names.get(role, role)

    name = content.get(column("file_name"))
    if not isinstance(name, str) or not name:
        found = f"found {shortened(content) or 'nothing'}"
        fix = near_columns(content, names, ("file_name",)) if column("file_name") not in content else ""
        raise DataError(f"{where} has no {column('file_name')}", needed=f"{column('file_name')}; {found}", fix=fix)
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{where}: file_name {name!r} is outside the folder", needed="a path inside the folder")
    return MetadataRow(
        file_name=str(parts),
        captions=captions_from(content.get(column("text")), where),
        label=label_from(content.get(column("label")), where),
        original_size=original_size_from(content, where, column),
        content=whole,
    )


def captions_from(text: Any, where: str) -> tuple[str, ...]:
    """Read one caption or a list of captions, without empty ones. Raises DataError for anything else."""
    if text is None or _is_nan(text):
        return ()
    listed = text if isinstance(text, list) else [text]
    if not all(isinstance(caption, str) for caption in listed):
        raise DataError(f"{where}: text is {text!r:.60}", needed="a string or a list of strings")
    return tuple(printable(caption.strip()) for caption in listed if caption.strip())


def without_point(value: Any) -> Any:
    """Return 3 for 3.0, as programs write whole numbers of a column in which some are missing; None for NaN, else the value."""
    if isinstance(value, str) and (whole := value.strip().partition("."))[1] and whole[2].strip("0") == "":
        return whole[0] if whole[0].isdecimal() else value
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else int(value) if value.is_integer() else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def label_from(label: Any, where: str) -> int | str | None:
    """Read a label: a whole number, also as 3.0, a name, or nothing. Raises DataError for anything else."""
    label = without_point(label)
    if label is None or label == "":
        return None
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise DataError(f"{where}: label is {label!r:.60}", needed="a whole number or a name")
    return label


def _itself(role: str) -> str:
    return role


def original_size_from(
    content: Mapping[str, Any], where: str, column: Callable[[str], str] = _itself
) -> tuple[int, int] | None:
    """Read (height, width) from original_height and original_width, both or neither. Raises DataError for anything else.

    A word for a missing number is no size, as in a column of numbers.
    """
    sides = [without_point(content.get(column(role))) for role in ("original_height", "original_width")]
    if all(side is None or (isinstance(side, str) and side.strip().lower() in _NO_SIZE) for side in sides):
        return None
    try:
        height, width = (int(side) for side in sides if isinstance(side, int | str) and not isinstance(side, bool))
    except (TypeError, ValueError):
        height = width = 0
    if not (1 <= height <= _MOST_SIDE_PX and 1 <= width <= _MOST_SIDE_PX):
        given = f"original_height={sides[0]!r:.60}, original_width={sides[1]!r:.60}"
        needed = f"both as whole numbers of pixels above 0 and at most {_MOST_SIDE_PX:,}, or neither"
        raise DataError(f"{where}: {given}", needed=needed)
    return height, width


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    parquet = need("pyarrow.parquet", extra="data")
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow's errors share no base class with what its decoders raise
        raise DataError(f"{path} cannot be read as parquet: {str(error).splitlines()[0][:120]}") from error
    if len(set(table.column_names)) < len(table.column_names):
        raise DataError(f"{path} has two columns {_twice(table.column_names)}", fix="keep one of them")
    yield from enumerate(table.to_pylist(), start=1)


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            content = parse_json(row, most_bytes=_MOST_ROW_BYTES, finite=False)  # NaN is how programs write what is missing
        except TwiceError as error:
            raise DataError(f"{path} line {line} names {printable(str(error))} twice", fix="keep one of them") from error
        except PlainDataError as error:
            raise DataError(f"{path} line {line} is not JSON: {error}", fix="correct that line") from error
        if not isinstance(content, dict):
            raise DataError(f"{path} line {line} contains a {type(content).__name__}", needed="an object with file_name")
        yield line, content
