"""What a control condition is: a few numbers that say how a training picture was made, and a gate in time."""

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
    """Base of every control. A subclass is its own config: add a file, add it to the union in `controls/__init__`,
    or define it in a program of your own before you load a recipe that names its kind (examples/own_control.py).

    `numbers`: how many numbers describe it. `option`: its name on the command line (`size=64x64`).
    The numbers are read by sinusoidal features with periods from 2 pi to 2 pi 10^4, so they should be of the order 1 to 1000.
    """

    kind: str
    gate: GateConfig
    numbers: ClassVar[int]
    option: ClassVar[str]
    form: ClassVar[str]

    @abstractmethod
    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """The numbers for one view, from the record of how it was made."""

    @abstractmethod
    def default(self, view: ViewShape) -> tuple[float, ...]:
        """The numbers sampling uses when the user gives none."""

    @abstractmethod
    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """The numbers for a value typed on the command line in the form `form`."""

    def values(self, records: Sequence[TransformRecord]) -> Tensor:
        """Numbers [B, self.numbers], float32, for the records of a batch."""
        return torch.tensor([self.of(record) for record in records], dtype=torch.float32)

    def misread(self, text: str) -> ConfigError:
        """The error for a value that does not have the form."""
        return ConfigError(f"{self.option}={text!r} cannot be read", needed=f"{self.option}={self.form}")


def split_numbers(text: str, separator: str, count: int) -> list[float] | None:
    """`count` finite numbers separated by `separator`, or None when the text is something else."""
    parts = text.lower().split(separator)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    finite = all(abs(number) < 1e9 for number in numbers)
    return numbers if len(numbers) == count and finite else None
