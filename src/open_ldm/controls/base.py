"""The base of control conditions: a few numbers that describe how a training picture was made, and a gate in time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.controls.gate import GateConfig
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.data.measures import Measure
from open_ldm.data.sample import Source, TransformRecord
from open_ldm.data.survey import DataSurvey
from open_ldm.data.transforms import TransformConfig


@dataclass(frozen=True)
class ViewShape:
    """The size of the views a model was trained on, and what is usual in its data.

    Attributes:
        height_px: Height of the views.
        width_px: Width of the views.
        typical_original_px: Median short side of the originals.
        typical_saturation: Median saturation of the pictures in percent; None where no control reads it.
        typical_brightness: Median brightness, likewise.
        columns: What was recorded of the columns of metadata that controls read.
        shapes: (height, width) of every shape of views in buckets; empty where all have one.
    """

    height_px: int
    width_px: int
    typical_original_px: int
    typical_saturation: float | None = None
    typical_brightness: float | None = None
    columns: tuple[ColumnFacts, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without what is None or empty."""
        content = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        return {**content, "columns": [column.to_json() for column in self.columns]} if self.columns else content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ViewShape:
        """Read what `to_json` returned. Raises TypeError for anything else."""
        columns = tuple(ColumnFacts.from_json(column) for column in content.get("columns", ()))
        shapes = tuple((shape[0], shape[1]) for shape in content.get("shapes", ()))
        return cls(**{**content, "columns": columns, "shapes": shapes})

    def of_shape(self, shape: tuple[int, int]) -> ViewShape:
        """Return the same with views of (height, width)."""
        return replace(self, height_px=shape[0], width_px=shape[1])

    def column(self, name: str) -> ColumnFacts | None:
        """Return what was recorded of a column; None where no control read it."""
        return next((column for column in self.columns if column.name == name), None)


class Control(Config):
    """Base of every control. A subclass is its own config.

    To add one to the package, write a file and add the class to the union in `controls/__init__`. To add one to your own
    program, define the class before you load a recipe that names its kind (examples/own_control.py).

    Attributes:
        kind: The control's name in a recipe.
        gate: gamma(t), the strength of the control at each time.
        numbers: How many numbers the control has. They are embedded by sinusoidal features with periods from 2 pi to
            2 pi 10^4, so they should be of the order 1 to 1000.
        option: The control's name on the command line, e.g. `size` in `size=64x64`.
        form: The form of a value on the command line, for error messages and help texts.
        measures: What must be measured of each picture for it (data/measures.py). One that is `UNKNOWN` may become NaN here:
            the control is then dropped for that picture.
        columns: Columns of metadata that it reads, from `record.columns`; a value may be None.
    """

    kind: str
    gate: GateConfig
    numbers: ClassVar[int]
    option: ClassVar[str]
    form: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> str:
        """Name of the control among those of a model, and of its weights; two controls of one kind have two."""
        return self.kind

    @property
    def asked_as(self) -> str:
        """The option by which this control is asked for; `option`, unless its settings say otherwise."""
        return self.option

    def asked_form(self, view: ViewShape) -> str:
        """Return in words what may be asked of a model of these data; `form`, unless it depends on them."""
        return self.form

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of metadata that this control reads; `columns`, unless its settings say otherwise."""
        return self.columns

    @property
    def categories(self) -> int | None:
        """Number of categories that `of` gives an index of, NaN for none; None where it gives numbers."""
        return None

    def fitted(self, view: ViewShape) -> Control:
        """Return the control with what a model recorded of its data, which `of` may need."""
        return self

    def weights_read(self) -> dict[str, Any]:
        """Return what decides the meaning of its weights, so that they can serve another model: all settings but the gate."""
        return self.model_dump(mode="json", exclude={"kind", "gate"})

    def describe(self, source: Source) -> ColumnFacts | None:
        """Return what a new model is to record of the column that this control reads; None for none."""
        return None

    @abstractmethod
    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Compute the numbers of one view from the record of how it was made."""

    @abstractmethod
    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return the numbers that sampling uses when the user gives none."""

    @abstractmethod
    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read the numbers from a value typed on the command line in the form `form`.

        Raises:
            ConfigError: The text does not have this form; see `misread`.
        """

    def check(self, source: Source, seen: DataSurvey, transform: TransformConfig) -> None:
        """Refuse data that cannot teach this control, before anything is built.

        By default, what it measures must be known for some pictures and must differ among them.

        Args:
            source: The data set.
            seen: Its survey, with the measures of this control.
            transform: How views are cut.

        Raises:
            ConfigError: The data say nothing about it, or the same of every picture.
        """
        found = [seen.measured[name] for name in self.measures]
        if not found or any(one.quantiles and one.quantiles.smallest < one.quantiles.largest for one in found):
            return
        said = ", ".join(
            f"{name} {'is unknown' if one.quantiles is None else f'is {one.quantiles.median:g}'}"
            for name, one in zip(self.measures, found, strict=True)
        )
        raise ConfigError(
            f"control {self.kind} has nothing to learn from: {said} for all {found[0].pictures} pictures examined",
            needed=f"pictures that differ in {' or '.join(self.measures)}",
            fix=f"leave {{kind: {self.kind}}} out of conditioning.controls",
        )

    def numbers_of(self, records: Sequence[TransformRecord]) -> Tensor:
        """Compute the numbers [B, self.numbers], float32, of a batch's records."""
        return torch.tensor([self.of(record) for record in records], dtype=torch.float32)

    def misread(self, text: str, needed: str | None = None) -> ConfigError:
        """Return the error for a value that does not have the form `form`, or is not what is `needed`."""
        return ConfigError(f"{self.asked_as}={text!r} cannot be read", needed=needed or f"{self.asked_as}={self.form}")


LARGEST = 62_831.0
"""The longest period of the features by which numbers are embedded, 2 pi 10^4: beyond it they begin again."""


def split_numbers(text: str, separator: str, count: int) -> list[float] | None:
    """Read `count` finite numbers separated by `separator`; return None when the text is something else."""
    parts = text.lower().split(separator)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    finite = all(abs(number) < 1e9 for number in numbers)
    return numbers if len(numbers) == count and finite else None
