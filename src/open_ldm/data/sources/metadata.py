"""Reading `metadata.jsonl` and `metadata.csv`: one row per picture, read strictly; errors name the line."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from open_ldm.core.errors import DataError, shortened
from open_ldm.data.sample import printable

METADATA_FILES = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class MetadataRow:
    """What metadata say about one picture. `file_name` is relative to the folder; `original_size` is (height, width)."""

    file_name: str
    captions: tuple[str, ...]
    label: int | str | None
    original_size: tuple[int, int] | None


def read_metadata(path: Path) -> list[MetadataRow]:
    """Read the rows, sorted by file name. Raises DataError, which names the line that is malformed or repeats a file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    is_csv = path.suffix == ".csv"
    rows: dict[str, MetadataRow] = {}
    for line, content in _csv_lines(text, path) if is_csv else _json_lines(text, path):
        where = f"{path} line {line}"
        row = parse_row(content, where)
        if row.file_name in rows:
            raise DataError(f"{where} names {row.file_name} again", fix="give all captions of a picture in one list")
        rows[row.file_name] = row
    if not rows:
        raise DataError(f"{path} has no rows", needed="one row per picture with file_name")
    return [rows[name] for name in sorted(rows)]


def stored_name(name: str, stored: Collection[str]) -> str:
    """Find `name` among `stored`, also in another Unicode normal form; return `name` itself when it is not there.

    Disks and archives may decompose accents that editors compose, or the other way round.
    """
    forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((form for form in forms if form in stored), name)


def parse_row(content: Mapping[str, Any], where: str) -> MetadataRow:
    """Check one row. Raises DataError with a message that begins with `where`."""
    name = content.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where} has no file_name", needed=f"file_name; found {shortened(content) or 'nothing'}")
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{where}: file_name {name!r} is outside the folder", needed="a path inside the folder")
    return MetadataRow(
        file_name=str(parts),
        captions=captions_from(content.get("text"), where),
        label=label_from(content.get("label"), where),
        original_size=original_size_from(content, where),
    )


def captions_from(text: Any, where: str) -> tuple[str, ...]:
    """Read one caption or a list of captions, without empty ones. Raises DataError for anything else."""
    if text is None:
        return ()
    listed = text if isinstance(text, list) else [text]
    if not all(isinstance(caption, str) for caption in listed):
        raise DataError(f"{where}: text is {text!r:.60}", needed="a string or a list of strings")
    return tuple(printable(caption.strip()) for caption in listed if caption.strip())


def label_from(label: Any, where: str) -> int | str | None:
    """Read a label: a whole number, a name, or nothing. Raises DataError for anything else."""
    if label is None or label == "":
        return None
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise DataError(f"{where}: label is {label!r:.60}", needed="a whole number or a name")
    return label


def original_size_from(content: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Read (height, width) from original_height and original_width, both or neither. Raises DataError for anything else."""
    sides = [content.get("original_height"), content.get("original_width")]
    if sides in ([None, None], ["", ""]):
        return None
    try:
        height, width = (int(side) for side in sides if isinstance(side, int | str) and not isinstance(side, bool))
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        given = f"original_height={sides[0]!r}, original_width={sides[1]!r}"
        raise DataError(f"{where}: {given}", needed="both as whole numbers of pixels above 0, or neither")
    return height, width


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            content = json.loads(row)
        except ValueError as error:
            raise DataError(f"{path} line {line} is not JSON: {error}", fix="correct that line") from error
        if not isinstance(content, dict):
            raise DataError(f"{path} line {line} contains a {type(content).__name__}", needed="an object with file_name")
        yield line, content


def _csv_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "file_name" not in (table.fieldnames or ()):
            columns = shortened(table.fieldnames or ["nothing"])
            raise DataError(f"{path} has no column file_name", needed=f"file_name; found {columns}")
        contents: list[tuple[int, dict[str, Any]]] = []
        for content in table:
            if None in content or None in content.values():
                raise DataError(f"{path} line {table.line_num} does not have one value per column", fix="correct that line")
            contents.append((table.line_num, content))
    except csv.Error as error:
        raise DataError(f"{path} line {table.line_num} is not CSV: {error}", fix="correct that line") from error
    labels = [content["label"] for _, content in contents if content.get("label")]
    # A CSV cell has no type: labels are numbers when every one of them looks like one.
    numeric = all(label.isascii() and label.removeprefix("-").isdigit() for label in labels)
    for line, content in contents:
        label = content.get("label")
        text_cell = content.get("text")
        yield line, {**content, "label": int(label) if label and numeric else label, "text": _listed(text_cell)}


def _listed(cell: str | None) -> str | list[Any] | None:
    """Return a CSV cell with a JSON list of captions as that list, and any other cell as it is."""
    if cell and cell.startswith("["):
        try:
            content = json.loads(cell)
        except ValueError:
            return cell
        return content if isinstance(content, list) else cell
    return cell
