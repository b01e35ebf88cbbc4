"""Aspect ratio of the original picture. It is a high-level control: wide pictures are composed differently."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape, split_numbers
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.data.sample import TransformRecord


class AspectRatio(Control):
    """The aspect ratio of the original as one number.

    `measure: log` is 100 log2(width / height): 0 for a square, +100 for twice as wide as high, -100 for the reverse.
    `measure: height_over_width` is the plain ratio that PixArt-alpha's weights read; PixArt-alpha rounds it to the nearest
    of its buckets.
    """

    kind: Literal["aspect_ratio"] = "aspect_ratio"
    gate: GateConfig = ConstantGate()
    measure: Literal["log", "height_over_width"] = "log"
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "aspect"
    form: ClassVar[str] = "WIDTH:HEIGHT, e.g. aspect=4:3"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Compute the ratio of the original's sides."""
        return self._measured(record.original_width_px, record.original_height_px)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Compute the ratio of the view itself, as if nothing had been cut off."""
        return self._measured(view.width_px, view.height_px)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `WIDTH:HEIGHT`, two positive numbers."""
        numbers = split_numbers(text, ":", 2)
        if numbers is None or min(numbers) <= 0:
            raise self.misread(text)
        return self._measured(*numbers)

    def _measured(self, width: float, height: float) -> tuple[float, ...]:
        return (100 * math.log2(width / height) if self.measure == "log" else height / width,)
