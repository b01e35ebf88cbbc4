"""Crop: where the view was cut from the resized picture. It is a high-level control: it changes the composition."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import LARGEST, Control, ViewShape, split_numbers
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.data.sample import TransformRecord


class Crop(Control):
    """(top, left) of the crop box in thousandths of the view's height and width; (0, 0) shows the picture's corner.

    Differs from SDXL, which takes raw pixels: thousandths keep their meaning when a model moves to another resolution.
    """

    kind: Literal["crop"] = "crop"
    gate: GateConfig = ConstantGate()
    numbers: ClassVar[int] = 2
    option: ClassVar[str] = "crop"
    form: ClassVar[str] = "TOP,LEFT in pixels of the view, e.g. crop=0,0"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Compute the offsets of the crop box relative to the view."""
        return (
            1000 * record.crop_top_px / record.height_px,
            1000 * record.crop_left_px / record.width_px,
        )

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return the upper left corner: nothing is cut off at the top and on the left."""
        return 0.0, 0.0

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `TOP,LEFT` in pixels of the view; neither may be negative."""
        numbers = split_numbers(text, ",", 2)
        if numbers is None or min(numbers) < 0:
            raise self.misread(text)
        top, left = 1000 * numbers[0] / view.height_px, 1000 * numbers[1] / view.width_px
        if max(top, left) > LARGEST:
            size = f"{view.height_px}x{view.width_px}"
            raise self.misread(text, needed=f"at most {LARGEST // 1000:.0f} times the {size} pixels of a view")
        return top, left
