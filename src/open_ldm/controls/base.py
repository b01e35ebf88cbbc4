"""The base of control conditions: a few numbers that describe how a training picture was made, and a gate in time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

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
    """

    height_px: int
    width_px: int
    typical_original_px: int
    typical_saturation: float | None = None
    typical_brightness: float | None = None

    def to_json(self) -> dict[str, int | float]:
        """Return plain data, without what is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


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
    """

    kind: str
    gate: GateConfig
    numbers: ClassVar[int]
    option: ClassVar[str]
    form: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]] = ()

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

    def values(self, records: Sequence[TransformRecord]) -> Tensor:
        """Compute the numbers [B, self.numbers], float32, of a batch's records."""
        return torch.tensor([self.of(record) for record in records], dtype=torch.float32)

    def misread(self, text: str) -> ConfigError:
        """Return the error for a value that does not have the form `form`."""
        return ConfigError(f"{self.option}={text!r} cannot be read", needed=f"{self.option}={self.form}")


def split_numbers(text: str, separator: str, count: int) -> list[float] | None:
    """Read `count` finite numbers separated by `separator`; return None when the text is something else."""
    parts = text.lower().split(separator)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    finite = all(abs(number) < 1e9 for number in numbers)
    return numbers if len(numbers) == count and finite else None
