"""Metadata: any column of a data set, a number or a category, as a control of its own."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import numpy as np
from pydantic import Field, PrivateAttr, field_validator, model_validator

from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.core.errors import ConfigError, nearest, shortened
from open_ldm.data.columns import Column, Value, columns_of, number_in, spelt
from open_ldm.data.sample import UNKNOWN, Source, TransformRecord
from open_ldm.data.survey import DataSurvey
from open_ldm.data.transforms import TransformConfig

PER_DEVIATION = 250.0
"""A number two deviations from the mean is 500 away from it, so that most numbers of a column spread over 1000."""
MOST_CATEGORIES = 1000
_NAMED = 3
_SHOWN = 12
_ROUNDED = 1e-5
"""Ends of a range are shown with six digits, and may be typed so."""


class Metadata(Control):
    """The value of one column of metadata, such as magnification or stain.

    A number x becomes 250 (x - mean) / std, under `scale: log` with ln x in the place of x; mean and std are those of the
    training pictures, recorded with the model. A category is the row of a table, whose last row stands for no value. For a
    picture without a value the control is dropped; a category that `values` does not list counts as none.

    Differs from the paper, which has no such control.

    Attributes:
        column: Name of the column; it may contain dots and blanks.
        name: What the control is called when it is asked for; null takes the name of the column.
        scale: How a number is read; null with `values` null takes linear for a column of numbers.
        values: The categories: those of the data (auto), or a list. null with `scale` null takes auto for a column of words.
    """

    kind: Literal["metadata"] = "metadata"
    column: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    scale: Literal["linear", "log"] | None = None
    values: Literal["auto"] | tuple[str, ...] | None = None
    gate: GateConfig = ConstantGate()
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "COLUMN"
    form: ClassVar[str] = "VALUE of a column of metadata, e.g. magnification=40 or stain=HE; an empty one leaves it open"
    _facts: ColumnFacts | None = PrivateAttr(default=None)

    @field_validator("values", mode="before")
    @classmethod
    def _as_words(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return [spelt(float(one)) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in given]

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Metadata:
        if self.scale is not None and self.values is not None:
            raise ValueError(f"scale={self.scale} is for numbers and values for categories; needed: one of them")
        if isinstance(self.values, tuple) and (len(self.values) < 2 or len(set(self.values)) < len(self.values)):
            raise ValueError(f"values={list(self.values)}; needed: two or more different ones")
        if "=" in self.asked_as:
            raise ValueError(f"{self.asked_as!r} cannot be asked for as NAME=VALUE; needed: name, such as name: magnification")
        return self

    @property
    def key(self) -> str:
        """The kind and the column, spelt so that it can name weights."""
        return f"{self.kind}:{quote(self.column, safe='').replace('.', '%2E')}"

    @property
    def asked_as(self) -> str:
        """The name, by default that of the column."""
        return self.name or self.column

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    @property
    def categories(self) -> int | None:
        """Number of categories; of a control that no data were shown to, those that it lists."""
        if self._facts is not None:
            return len(self._facts.words) or None
        return len(self.values) if isinstance(self.values, tuple) else 1 if self.values == "auto" else None

    def fitted(self, view: ViewShape) -> Metadata:
        """Return the control with what was recorded of its column."""
        fitted = self.model_copy()
        fitted._facts = view.column(self.column)
        return fitted

    def describe(self, source: Source) -> ColumnFacts:
        """Return mean, deviation and range of the numbers, or the categories, over all pictures of a source.

        Raises:
            ConfigError: There is no such column, it holds something else than the settings say, or always the same.
        """
        column = self._column(source)
        if self.scale is None and self.values is None:
            self._refuse_doubt(column)
        wants_words = self.values is not None or (self.scale is None and not column.is_numeric)
        return self._categories(column) if wants_words else self._numbers(column)

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return the standardised number, or the index of the category; NaN for no value, or one that training had not."""
        value = record.columns.get(self.column)
        facts = self._facts
        if self.column not in record.columns or facts is None:
            raise ValueError(f"the record or the control was made without the column {self.column!r}")
        if facts.words:
            word = value if isinstance(value, str) else None if value is None else spelt(value)
            return (float(facts.words.index(word)) if word in facts.words else UNKNOWN,)
        return (self._standardised(_number(value), facts),)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return the median, or the most frequent category."""
        facts = view.column(self.column)
        if facts is None:
            return (UNKNOWN,)
        if facts.words:
            return (float(facts.words.index(str(facts.usual))),)
        return (self._standardised(UNKNOWN if facts.median is None else facts.median, facts),)

    def asked_form(self, view: ViewShape) -> str:
        """Return the categories that the model knows, or the range of numbers that training saw."""
        facts = view.column(self.column)
        if facts is None or (not facts.words and facts.smallest is None):
            return self.form
        if facts.words:
            more = f" and {len(facts.words) - _SHOWN} more" if len(facts.words) > _SHOWN else ""
            return f"one of {', '.join(facts.words[:_SHOWN])}{more}; an empty one leaves it open"
        return f"a number from {facts.smallest:g} to {facts.largest:g}; an empty one leaves it open"

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read a number in the range that training saw, or a category; an empty text drops the control.

        Raises:
            ConfigError: The text is something else; the error names what the model knows.
        """
        facts = view.column(self.column)
        given = text.strip()
        if not given or facts is None:
            return (UNKNOWN,)
        if facts.words:
            alike = {word: index for index, word in enumerate(facts.words)}
            number = number_in(given)
            if given not in alike and not math.isnan(number):
                given = spelt(number)
            if given not in alike:
                close = next((word for word in facts.words if word.casefold() == given.casefold()), given)
                raise ConfigError(
                    f"{self.asked_as}={text!r} is no value that the model knows", needed=nearest(close, facts.words)
                )
            return (float(alike[given]),)
        number, low, high = number_in(given), facts.smallest, facts.largest
        assert low is not None and high is not None
        if math.isnan(number) or not low - _ROUNDED * abs(low) <= number <= high + _ROUNDED * abs(high):
            problem = "is no number" if math.isnan(number) else "is outside the range that training saw"
            raise ConfigError(f"{self.asked_as}={text!r} {problem}", needed=f"a number from {low:g} to {high:g}")
        return (self._standardised(number, facts),)

    def weights_read(self) -> dict[str, Any]:
        """Return column and scale of the numbers with what they are standardised by, or that there are categories."""
        facts = self._facts
        if facts is None:
            return {"column": self.column, "scale": self.scale, "values": self.values}
        if facts.words:
            return {"column": self.column, "read as": "categories"}
        return {"column": self.column, "read as": f"{facts.scale} numbers", "mean": facts.mean, "std": facts.std}

    def check(self, source: Source, seen: DataSurvey, transform: TransformConfig) -> None:
        """Refuse a column that is missing, holds something else than the settings say, or always the same."""
        self.describe(source)

    def examples(self, view: ViewShape, count: int = 5) -> tuple[str, ...]:
        """Return up to `count` values that the model knows: numbers evenly spaced on the scale, or the first categories."""
        facts = view.column(self.column)
        if facts is None or facts.words:
            return () if facts is None else facts.words[:count]
        low, high = self.on_scale(facts.smallest or 0.0), self.on_scale(facts.largest or 0.0)
        between = [low + (high - low) * step / (count - 1) for step in range(1, count - 1)]
        numbers = [facts.smallest, *(math.exp(one) if self.scale == "log" else one for one in between), facts.largest]
        return tuple(f"{number:.6g}" if 0 < place < count - 1 else spelt(number or 0.0) for place, number in enumerate(numbers))

    def on_scale(self, number: float) -> float:
        """Return the number on the scale that the control reads it by; NaN for one that a log scale does not have."""
        if self.scale != "log":
            return number
        return math.log(number) if number > 0 else UNKNOWN

    def _column(self, source: Source) -> Column:
        columns = columns_of(source)
        if self.column in columns:
            return columns[self.column]
        has = nearest(self.column, columns) if columns else f"metadata with columns; {source.summary.sentence()}"
        raise ConfigError(f"control {self.asked_as}: the data have no column {self.column!r}", needed=has)

    def _refuse_doubt(self, column: Column) -> None:
        """Raise ConfigError for a column of words most of which are numbers: a few cells would make categories of the rest."""
        others = [repr(word) for word in column.words if math.isnan(number_in(word))]
        if others and 2 * len(others) < len(column.words):
            numbers = len(column.words) - len(others)
            raise ConfigError(
                f"control {self.asked_as}: column {column.name!r} holds {numbers:,} numbers and {shortened(others, _NAMED)}",
                needed="scale: linear or log once all are numbers, or values: auto for categories",
            )

    def _numbers(self, column: Column) -> ColumnFacts:
        values = column.as_numbers()
        if values is None:
            wrong = shortened([repr(word) for word in column.words if math.isnan(number_in(word))], _NAMED)
            raise ConfigError(
                f"control {self.asked_as}: scale={self.scale}, but column {column.name!r} holds words: {wrong}",
                needed="numbers",
                fix="values: auto, for categories",
            )
        known = values[~np.isnan(values)]
        self._require_two(column, len(np.unique(known)), [spelt(float(one)) for one in known[:1]])
        if self.scale == "log" and (wrong_ones := int((known <= 0).sum())):
            raise ConfigError(
                f"control {self.asked_as}: {wrong_ones:,} of {len(known):,} numbers are not above 0, down to {known.min():g}",
                needed="numbers above 0 for scale: log",
                fix="scale: linear",
            )
        scaled = np.log(known) if self.scale == "log" else known
        return ColumnFacts(
            name=column.name,
            pictures=len(values),
            missing=len(values) - len(known),
            scale=self.scale or "linear",
            mean=float(scaled.mean()),
            std=float(scaled.std()),
            smallest=float(known.min()),
            median=float(np.quantile(known, 0.5, method="lower")),
            largest=float(known.max()),
        )

    def _categories(self, column: Column) -> ColumnFacts:
        counts = column.counts()
        words = self.values if isinstance(self.values, tuple) else column.as_words().words
        if isinstance(self.values, tuple) and (absent := [word for word in self.values if word not in counts]):
            raise ConfigError(
                f"control {self.asked_as}: no picture has {shortened(absent, _NAMED)} in column {column.name!r}",
                needed=nearest(absent[0], counts) if counts else "values that pictures have",
            )
        self._require_two(column, len(counts), list(counts))
        if len(words) > MOST_CATEGORIES:
            raise ConfigError(
                f"control {self.asked_as}: column {column.name!r} has {len(words):,} different values",
                needed=f"at most {MOST_CATEGORIES:,} categories",
                fix="list those that matter in values, or scale: linear for numbers",
            )
        taken = {word: count for word, count in counts.items() if word in set(words)}
        pictures = len(column.values)
        usual = next(iter(taken))
        return ColumnFacts(column.name, pictures, pictures - sum(taken.values()), words=tuple(words), usual=usual)

    def _require_two(self, column: Column, different: int, found: list[str]) -> None:
        if different >= 2:
            return
        same = f"is {found[0]} for all" if found else "has no number and no word for any"
        among = len(column.values) - (column.missing if found else 0)
        raise ConfigError(
            f"control {self.asked_as} has nothing to learn from: column {column.name!r} {same} of {among:,} pictures",
            needed="pictures that differ in it",
            fix="leave this control out of conditioning.controls",
        )

    def _standardised(self, number: float, facts: ColumnFacts) -> float:
        assert facts.mean is not None and facts.std is not None
        return PER_DEVIATION * (self.on_scale(number) - facts.mean) / facts.std


def _number(value: Value) -> float:
    if isinstance(value, str):
        return number_in(value)
    return UNKNOWN if value is None else value
