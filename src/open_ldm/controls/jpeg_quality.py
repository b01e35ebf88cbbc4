"""JPEG quality: how strongly the picture's file was compressed. It is a low-level control: it changes detail, not content."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape, split_numbers
from open_ldm.controls.gate import GateConfig, PowerCosineGate
from open_ldm.data.measures import Measure
from open_ldm.data.sample import TransformRecord

_BEST = 100.0
_PER_STEP = 10


class JpegQuality(Control):
    """Ten times libjpeg's quality of the picture's file, 10 to 1000; lossless files have 1000 (data/jpeg_quality.py).

    A model of bad pictures can so be asked for clean ones, which is the default. Of a file whose quality is unknown the control
    is dropped. The default gate is that of the original size.

    Differs from the paper, which has no such control.
    """

    kind: Literal["jpeg_quality"] = "jpeg_quality"
    gate: GateConfig = PowerCosineGate(alpha=8.0)
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "quality"
    form: ClassVar[str] = "1 to 100, e.g. quality=90"
    measures: ClassVar[tuple[Measure, ...]] = ("jpeg_quality",)

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return ten times the quality; NaN where it is unknown."""
        if record.jpeg_quality is None:
            raise ValueError("the record was made without the measure of the control jpeg_quality")
        return (_PER_STEP * record.jpeg_quality,)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return that of a lossless file."""
        return (_PER_STEP * _BEST,)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read a number from 1 to 100."""
        numbers = split_numbers(text, ",", 1)
        if numbers is None or not 1 <= numbers[0] <= _BEST:
            raise self.misread(text)
        return (_PER_STEP * numbers[0],)
