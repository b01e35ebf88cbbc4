"""Colour: how saturated and how bright the picture is. It is a low-level control: it changes the look, not the content."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape, split_numbers
from open_ldm.controls.gate import GateConfig, PowerCosineGate
from open_ldm.data.measures import Measure
from open_ldm.data.sample import TransformRecord

_USUAL_SATURATION, _USUAL_BRIGHTNESS = 20.0, 45.0
_PER_PERCENT = 10


class Colour(Control):
    """(saturation, brightness) of the whole stored picture in thousandths (formulas: data/measures.py).

    They are those of the picture, not of the view, so that they can be asked for before there is a view. A grey picture has
    saturation 0, black has brightness 0 and white 1000. The default gate is that of the original size.

    Differs from the paper / unverified: it names colour as a low-level control; which statistics it takes is not known here.
    """

    kind: Literal["colour"] = "colour"
    gate: GateConfig = PowerCosineGate(alpha=8.0)
    numbers: ClassVar[int] = 2
    option: ClassVar[str] = "colour"
    form: ClassVar[str] = "SATURATION,BRIGHTNESS in percent, e.g. colour=20,45"
    measures: ClassVar[tuple[Measure, ...]] = ("saturation", "brightness")

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return saturation and brightness in thousandths."""
        if record.saturation is None or record.brightness is None:
            raise ValueError("the record was made without the measures of the control colour")
        return _PER_PERCENT * record.saturation, _PER_PERCENT * record.brightness

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return the medians of the data; where they were not recorded, 20 % and 45 %."""
        saturation = _USUAL_SATURATION if view.typical_saturation is None else view.typical_saturation
        brightness = _USUAL_BRIGHTNESS if view.typical_brightness is None else view.typical_brightness
        return _PER_PERCENT * saturation, _PER_PERCENT * brightness

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `SATURATION,BRIGHTNESS`, two numbers from 0 to 100."""
        numbers = split_numbers(text, ",", 2)
        if numbers is None or min(numbers) < 0 or max(numbers) > 100:
            raise self.misread(text)
        return _PER_PERCENT * numbers[0], _PER_PERCENT * numbers[1]
