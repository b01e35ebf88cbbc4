"""Original size: how large the picture was before it was resized. It is a low-level control: it changes detail, not content."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import LARGEST, Control, ViewShape, split_numbers
from open_ldm.controls.gate import GateConfig, PowerCosineGate
from open_ldm.data.sample import TransformRecord

_LONGER = 8.0
"""Times the data's median short side that a side may have, where the data themselves are larger than `LARGEST`."""


class OriginalSize(Control):
    """(height, width) of the original picture in pixels, as in SDXL. Its default gate opens late (power-cosine, alpha 8)."""

    kind: Literal["original_size"] = "original_size"
    gate: GateConfig = PowerCosineGate(alpha=8.0)
    numbers: ClassVar[int] = 2
    option: ClassVar[str] = "size"
    form: ClassVar[str] = "HEIGHTxWIDTH in pixels, e.g. size=256x256"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return the original height and width."""
        return float(record.original_height_px), float(record.original_width_px)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return a square of the data's median short side; in buckets a picture of that short side and the view's ratio."""
        short = float(view.typical_original_px)
        if not view.shapes:
            return short, short
        smaller = min(view.height_px, view.width_px)
        return short * view.height_px / smaller, short * view.width_px / smaller

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `HEIGHTxWIDTH`, two positive numbers of at most `LARGEST`, or what pictures as large as the data's have."""
        numbers = split_numbers(text, "x", 2)
        if numbers is None or min(numbers) <= 0:
            raise self.misread(text)
        most = max(LARGEST, _LONGER * view.typical_original_px)
        if max(numbers) > most:
            raise self.misread(text, needed=f"at most {most:.0f} pixels a side, the largest that a model tells apart")
        return tuple(numbers)
