"""Which column of a table is the picture, the class, the captions and the rest, by the types that the table declares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from open_ldm.core.errors import DataError, shortened
from open_ldm.core.extras import need
from open_ldm.data.columns import Column, build_column
from open_ldm.sources.near_misses import near_columns

_WORDS = ("string", "large_string")
_BYTES = ("binary", "large_binary")
_AT_ONCE = 1000


class NoPictureColumnError(DataError):
    """A table holds no pictures."""


@dataclass(frozen=True)
class HubColumns:
    """Names of the columns by role; '' where there is none.

    Attributes:
        picture: Pictures.
        label: The class.
        text: Captions.
        file_name: What names a sample.
        height: Original heights.
        width: Original widths.
        class_names: Names of the classes where the column declares them.
        others: Columns of numbers and words that have no role, each with its path: ("meta", "stain") of meta.stain.
        said: What is not read, for the summary.
    """

    picture: str
    label: str = ""
    text: str = ""
    file_name: str = ""
    height: str = ""
    width: str = ""
    class_names: tuple[str, ...] | None = None
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    said: str = ""


def choose_columns(
    features: Mapping[str, Any],
    picture: str | None,
    columns: Mapping[str, str],
    where: str,
    is_whole: Callable[[str], bool] = lambda name: False,
) -> HubColumns:
    """Choose the columns.

    Args:
        features: Types of the columns, from `datasets`.
        picture: Name of the column of pictures; None takes the one there is.
        columns: Names of columns by role where they are called otherwise.
        where: Name of the table, for messages.
        is_whole: Tells whether all numbers in a column of floats are whole, as where some of a column of numbers are missing.

    Raises:
        DataError: There is no column of pictures, there are several, or a named one has another type.
    """
    if absent := sorted(set(columns.values()) - set(features)):
        raise DataError(f"{where} has no column {absent[0]}", needed=f"one of {shortened(features)}", fix="data.source.columns")
    pictures = _picture_column(features, picture, where)
    declared, names = _declared(features), dict(columns)
    if "label" not in names and "label" not in features and len(declared) == 1:
        names["label"] = declared[0]
    found: dict[str, str] = {}
    unread = []
    fits = {
        "label": _is_label,
        "text": _is_text,
        "file_name": _is_word,
        "original_height": _is_whole,
        "original_width": _is_whole,
    }
    for role, suits in fits.items():
        name = names.get(role, role)
        if name not in features:
            continue
        as_float = role not in ("text", "file_name") and _dtype(features[name]).startswith("float")
        if suits(features[name]) or (as_float and is_whole(name)):
            found[role] = name
        elif role in columns:
            raise DataError(f"{where}: column {name} is {features[name]!s:.60}", needed=f"another type for {role}")
        else:
            unread.append(f"column {name} is {features[name]!s:.40} and is not read")
    used = {pictures, *found.values()}
    others = {".".join(path): path for path in _scalars(features) if path[0] not in used}
    unread += _named(features, columns, found, {*used, *(path[0] for path in others.values())})
    label = found.get("label", "")
    return HubColumns(
        picture=pictures,
        label=label,
        text=found.get("text", ""),
        file_name=found.get("file_name", ""),
        height=found.get("original_height", ""),
        width=found.get("original_width", ""),
        class_names=tuple(features[label].names) if label and _kind(features[label]) == "ClassLabel" else None,
        others=others,
        said="; ".join(unread),
    )


def _named(
    features: Mapping[str, Any], columns: Mapping[str, str], found: Mapping[str, str], read: Collection[str]
) -> list[str]:
    """Name what looks like captions or classes and is not read, and what no column of numbers or words can be."""
    words = []
    if near := near_columns(list(features), columns, [role for role in ("text", "label") if role not in found]):
        words.append(f"columns not read; to read them: {near}")
    declared = _declared(features)
    if "label" not in found and len(declared) > 1:
        words.append(f"classes are declared by {', '.join(declared)}: data.source.columns={{label: {declared[0]}}} takes one")
    if rest := [f"{name} {_short(feature)}" for name, feature in features.items() if name not in read]:
        words.append(f"columns of lists, bytes or pictures are not read: {shortened(rest, 4)}")
    return words


def _declared(features: Mapping[str, Any]) -> list[str]:
    return [name for name, feature in features.items() if _kind(feature) == "ClassLabel"]


def _picture_column(features: Mapping[str, Any], given: str | None, where: str) -> str:
    """Find the column of pictures: images, else structs with `bytes`, else bytes."""
    kinds: Sequence[list[str]] = (
        [name for name, feature in features.items() if _kind(feature) == "Image"],
        [name for name, feature in features.items() if isinstance(feature, Mapping) and "bytes" in feature],
        [name for name, feature in features.items() if _dtype(feature) in _BYTES],
    )
    possible = [name for names in kinds for name in names]
    listed = ", ".join(f"{name} {_short(feature)}" for name, feature in list(features.items())[:6])
    if given is not None:
        if given in possible:
            return given
        raise DataError(
            f"{where}: data.source.picture={given} is no column of pictures",
            needed=f"one of {shortened(possible)}; found {listed}",
        )
    found = next((names for names in kinds if names), [])
    if not found:
        hint = "read the addresses with img2dataset" if any("url" in name.lower() for name in features) else ""
        problem = f"{where} has no column of pictures; found {listed}"
        raise NoPictureColumnError(problem, needed="images, or their bytes", fix=hint)
    if len(found) > 1:
        raise DataError(
            f"{where} has {len(found)} columns of pictures: {shortened(found, 6)}", fix=f"data.source.picture={found[0]}"
        )
    return found[0]


def _kind(feature: Any) -> str:
    return type(feature).__name__


def _short(feature: Any) -> str:
    return str(_dtype(feature) or _kind(feature))


def _dtype(feature: Any) -> str:
    return str(feature.dtype) if _kind(feature) == "Value" else ""


def _is_whole(feature: Any) -> bool:
    return _dtype(feature).startswith(("int", "uint"))


def _is_word(feature: Any) -> bool:
    return _dtype(feature) in _WORDS


def _is_label(feature: Any) -> bool:
    return _kind(feature) == "ClassLabel" or _is_whole(feature) or _is_word(feature)


def _scalars(features: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Find the columns of numbers, words and dates, and those inside structs, by their paths."""
    for name, feature in features.items():
        if _is_label(feature) or _dtype(feature).startswith(("float", "bool", "timestamp", "date", "decimal")):
            yield (*above, name)
        elif isinstance(feature, Mapping) and "bytes" not in feature:
            yield from _scalars(feature, (*above, name))


def _is_text(feature: Any) -> bool:
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return _is_word(inner) and _kind(feature) in ("Value", "List", "LargeList", "Sequence", "list")


class MappedColumn:
    """Random access to one column of an arrow table, past the formatting of `datasets`, which costs as much as a small picture.

    Args:
        table: The arrow table.
        name: The column.
    """

    def __init__(self, table: Any, name: str) -> None:
        self._chunks: list[Any] = table.column(name).chunks
        self._starts = list(accumulate((len(chunk) for chunk in self._chunks[:-1]), initial=0))

    def __getitem__(self, index: int) -> Any:
        """Return the arrow scalar of a row."""
        at = bisect_right(self._starts, index) - 1
        return self._chunks[at][index - self._starts[at]]


@dataclass(frozen=True)
class TableColumns:
    """Reads columns of a table for data/columns.py.

    Attributes:
        values: Reads all values of a column, in order.
        words: The names of declared classes, by column.
        paths: Where each column is, for those inside structs.
    """

    values: Callable[[str], Iterator[Any]]
    words: Mapping[str, Sequence[str]]
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        """Return columns by name."""
        return {name: build_column(name, list(self._values(name))) for name in names}

    def _values(self, name: str) -> Iterator[Any]:
        top, *inner = self.paths.get(name, (name,))
        return (self._named(name, inner_value(value, inner)) for value in self.values(top))

    def _named(self, name: str, value: Any) -> Any:
        words = self.words.get(name)
        if words is None or value is None:
            return value
        return words[value] if value >= 0 else None


def bytes_in(cell: Any) -> Any:
    """Return the bytes in a cell of pictures, mapped and not copied; None where it holds none."""
    buffer = (cell["bytes"] if hasattr(cell, "keys") else cell).as_buffer()
    return buffer if buffer is not None and buffer.size else None


def path_in(cell: Any) -> str | None:
    """Return the path in a cell of pictures; None where it names none."""
    if not hasattr(cell, "keys") or not cell.is_valid or "path" not in cell.keys():  # noqa: SIM118 - no mapping
        return None
    return cell["path"].as_py() or None


def inner_value(value: Any, names: Sequence[str]) -> Any:
    """Return what is inside a struct at a path; None where the path ends early."""
    for name in names:
        value = None if value is None else value.get(name)
    return value


def values_of(rows: Any, column: str) -> Iterator[Any]:
    """Read one column of a `datasets.Dataset` in order, a thousand rows at a time."""
    for part in rows.select_columns([column]).with_format("arrow").iter(batch_size=_AT_ONCE):
        yield from part[column].to_pylist()


def paths_without_bytes(rows: Any, column: str) -> dict[int, str | None]:
    """Find rows whose picture is not stored, and the path or None that is there instead, without reading any picture."""
    found: dict[int, str | None] = {}
    start = 0
    for part in rows.select_columns([column]).with_format("arrow").iter(batch_size=_AT_ONCE):
        stored = part[column]
        for chunk in stored.chunks if hasattr(stored, "chunks") else [stored]:
            by_struct = hasattr(chunk, "field")
            empty = _empty(chunk.field("bytes")) if by_struct else _empty(chunk)
            paths = chunk.field("path") if by_struct and chunk.type.get_field_index("path") >= 0 else None
            for row in empty:
                path = None if paths is None or not chunk[row].is_valid else paths[row].as_py()
                found[start + row] = path or None
            start += len(chunk)
    return found


def _empty(values: Any) -> list[int]:
    """Return the positions of nulls and of empty values, from validity and offsets alone."""
    compute = need("pyarrow.compute", extra="data")
    lengths = compute.fill_null(compute.binary_length(values), 0)
    positions: list[int] = compute.indices_nonzero(compute.equal(lengths, 0)).to_pylist()
    return positions
