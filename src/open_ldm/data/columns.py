"""Columns of metadata: what a data set says about each picture besides its label and captions, as numbers or words.

A column is read from the index of a source; no picture is opened. What is blank, null or not finite is missing. A column of a
CSV file holds numbers when every cell that is not blank looks like one: `40`, `2.5`, `1e-3`. Cells such as `007`, or whole
numbers that a float64 cannot hold, make it a column of words, so that no two values become one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from open_ldm.data.sample import Source, TransformRecord, printable

Value = float | str | None
"""A number, a word, or nothing."""

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|\d*\.\d+|0\.|[1-9]\d*\.)([eE][+-]?\d+)?")
MISSING_NUMBERS = frozenset(
    [
        "nan",
        "-nan",
        "na",
        "n/a",
        "<na>",
        "#n/a",
        "#na",
        "#n/a n/a",
        "null",
        "none",
        "nil",
        "#div/0!",
        "#value!",
        "#ref!",
        "#num!",
    ]
    + ["1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "-", "--", "?", "."]
    + [sign + word for sign in ("", "+", "-") for word in ("inf", "infinity")]
)
"""How programs and people write that a number is missing, in small letters; in a column of words each is a word."""
_MOST_EXACT = 2**53
_MOST_DEPTH = 8


@dataclass(frozen=True)
class Column:
    """One column of n samples, of numbers or of words.

    Attributes:
        name: Its name in the metadata; it may contain dots and blanks.
        values: float64 [n], NaN where missing; or int32 [n], indices into `words`, -1 where missing.
        words: The distinct words, sorted; empty for a column of numbers.
    """

    name: str
    values: np.ndarray[Any, np.dtype[Any]]
    words: tuple[str, ...] = ()

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.values.dtype == np.float64

    @property
    def missing(self) -> int:
        """Number of samples without a value."""
        return int(np.count_nonzero(np.isnan(self.values) if self.is_numeric else self.values < 0))

    @property
    def hash(self) -> str:
        """Hash of all values in their order."""
        digest = hashlib.blake2b(repr((str(self.values.dtype), self.words)).encode("utf-8", "backslashreplace"), digest_size=16)
        digest.update(self.values.tobytes())
        return digest.hexdigest()

    def at(self, index: int) -> Value:
        """Return the value of a sample."""
        value = self.values[index]
        if self.is_numeric:
            return None if math.isnan(value) else float(value)
        return None if value < 0 else self.words[value]

    def rows(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Column:
        """Return the column of the samples at `indices`; words that none of them has go."""
        values = self.values[indices]
        if self.is_numeric:
            return Column(self.name, values)
        used = sorted({int(code) for code in np.unique(values) if code >= 0})
        renumbered = np.full(len(self.words) + 1, -1, dtype=np.int32)
        renumbered[used] = np.arange(len(used), dtype=np.int32)
        return Column(self.name, renumbered[values], tuple(self.words[code] for code in used))

    def as_numbers(self) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """Return the values as float64 [n], NaN where missing; None when some words are no numbers."""
        if self.is_numeric:
            return self.values
        known = np.array([number_in(word) for word in self.words] + [math.nan], dtype=np.float64)
        return None if np.isnan(known[:-1]).any() else known[self.values]

    def as_words(self) -> Column:
        """Return the column with numbers spelt as words, in the order of the numbers."""
        if not self.is_numeric:
            return self
        known = np.unique(self.values[~np.isnan(self.values)])
        codes = np.where(np.isnan(self.values), -1, np.searchsorted(known, self.values)).astype(np.int32)
        return Column(self.name, codes, tuple(spelt(float(number)) for number in known))

    def counts(self) -> dict[str, int]:
        """Count the samples of each word, the most frequent word first and equal ones in their order."""
        column = self.as_words()
        found = np.bincount(column.values[column.values >= 0], minlength=len(column.words))
        order = sorted(range(len(column.words)), key=lambda code: (-found[code], code))
        return {column.words[code]: int(found[code]) for code in order}


class Columns(Mapping[str, Column]):
    """The columns of a source by name; each is read when it is first asked for, and kept.

    Args:
        names: Names of the columns.
        read: Reads columns, several in one pass.
        roles: Those among them that are labels, sizes or the like already.
    """

    def __init__(
        self, names: Iterable[str], read: Callable[[Sequence[str]], Mapping[str, Column]], roles: Iterable[str] = ()
    ) -> None:
        self._names, self._read, self.roles = tuple(names), read, frozenset(roles)
        self._known: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        self.prepare([name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def prepare(self, names: Iterable[str]) -> None:
        """Read several columns in one pass. Raises KeyError for a name that is none of them."""
        wanted = [name for name in dict.fromkeys(names) if name not in self._known]
        if unknown := [name for name in wanted if name not in self._names]:
            raise KeyError(unknown[0])
        if wanted:
            self._known.update(self._read(wanted))

    def rows(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Columns:
        """Return the columns of the samples at `indices`."""
        return Columns(self._names, _Rows(self, indices), self.roles)

    def unused(self, used: Iterable[str]) -> tuple[str, ...]:
        """Return the names of columns that are neither roles nor `used`."""
        taken = {*used, *self.roles}
        return tuple(name for name in self._names if name not in taken)

    def hash_of(self, names: Iterable[str]) -> str:
        """Hash the values of some columns; '' for none."""
        found = {name: self[name].hash for name in sorted(set(names))}
        return hashlib.blake2b(repr(found).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest() if found else ""


@dataclass(frozen=True)
class _Rows:
    """Reads columns of a part of a source; a class, because reading processes may receive it."""

    whole: Columns
    indices: np.ndarray[Any, np.dtype[np.int64]]

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        self.whole.prepare(names)
        return {name: self.whole[name].rows(self.indices) for name in names}


@dataclass(frozen=True)
class Given:
    """Values that are known already, column by column; `untyped` says that they are texts of a CSV file."""

    values: Mapping[str, Sequence[Any]]
    untyped: bool = False

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        """Build columns by their names."""
        return {name: build_column(name, self.values[name], untyped=self.untyped) for name in names}


NONE = Columns((), Given({}))


def columns_of(source: Source) -> Columns:
    """Return the columns of a source; none for one without metadata."""
    found = getattr(source, "columns", NONE)
    return found if isinstance(found, Columns) else NONE


def with_columns(record: TransformRecord, columns: Columns, names: Sequence[str], index: int) -> TransformRecord:
    """Return the record of a view of sample `index` with its values in some columns; None in a column that is not there."""
    return replace(record, columns={name: columns[name].at(index) if name in columns else None for name in names})


def build_column(name: str, values: Sequence[Any], *, untyped: bool = False) -> Column:
    """Build a column of what metadata hold.

    Args:
        name: Its name.
        values: One of each sample: numbers, words, booleans, None; anything else counts as missing.
        untyped: The values are texts, as in CSV: they are numbers where all of them look like one.
    """
    read = [_read(value) for value in values]
    read = _typed(read) if untyped else _without_missing(read)
    if all(value is None or isinstance(value, float) for value in read):
        return Column(name, np.array([math.nan if value is None else value for value in read], dtype=np.float64))
    spelled = [spelt(value) if isinstance(value, float) else value for value in read]
    words = sorted({word for word in spelled if word is not None})
    code = {word: index for index, word in enumerate(words)}
    return Column(name, np.array([-1 if word is None else code[word] for word in spelled], dtype=np.int32), tuple(words))


def flat(content: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Name the values of nested objects by dotted names: {"ome": {"pixel_size_um": 0.5}} has `ome.pixel_size_um`.

    A name that is written out with its dots counts before a nested one.
    """
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and depth < _MOST_DEPTH:
            for inner, one in flat(value, f"{prefix}{name}.", depth + 1).items():
                found.setdefault(inner, one)
        else:
            found[f"{prefix}{name}"] = value
    return found


def is_value(value: Any) -> bool:
    """Return whether metadata's value can stand in a column: a number, a word or nothing, not a list."""
    return value is None or isinstance(value, str | bool | int | float | Decimal) or hasattr(value, "isoformat")


def number_in(word: str) -> float:
    """Return the number that a text is, NaN for any other text and for a number that float64 does not hold exactly."""
    if not _NUMBER.fullmatch(word):
        return math.nan
    number = float(word)
    whole = word.lstrip("+-").isdigit()
    return math.nan if not math.isfinite(number) or (whole and abs(int(word)) > _MOST_EXACT) else number


def spelt(number: float) -> str:
    """Write a number as a word: whole numbers without a point."""
    return str(int(number)) if number.is_integer() and abs(number) <= _MOST_EXACT else repr(number)


def _read(value: Any) -> Value:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        if isinstance(value, int) and abs(value) > _MOST_EXACT:
            return str(value)
        number = float(value)
        return number if math.isfinite(number) else None
    if value is None or not is_value(value):
        return None
    text = printable((value if isinstance(value, str) else value.isoformat()).strip())
    return text or None


def _without_missing(read: Sequence[Value]) -> list[Value]:
    """Take words for a missing number as missing where everything else is a number."""
    texts = {value for value in read if isinstance(value, str)}
    if not texts or not any(isinstance(value, float) for value in read) or {text.lower() for text in texts} - MISSING_NUMBERS:
        return list(read)
    return [None if isinstance(value, str) else value for value in read]


def _typed(read: Sequence[Value]) -> list[Value]:
    """Read texts as numbers where every text is a number, or one of the words for a missing one."""
    texts = [value for value in read if isinstance(value, str)]
    real = [text for text in texts if text.lower() not in MISSING_NUMBERS]
    if not real or any(math.isnan(number_in(text)) for text in real):
        return list(read)
    numbers = [number_in(value) if isinstance(value, str) else math.nan for value in read]
    return [None if math.isnan(number) else number for number in numbers]
