"""The base of control conditions: a few numbers that describe how a training picture was made, and a gate in time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from open_ldm.controls.gate import GateConfig
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import TransformRecord


@dataclass(frozen=True)
class ViewShape:
    """The size of the views a model was trained on and the usual original size of its data, all in pixels."""

    height_px: int
    width_px: int
    typical_original_px: int


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
    """

    kind: str
    gate: GateConfig
    numbers: ClassVar[int]
    option: ClassVar[str]
    form: ClassVar[str]

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
