"""Flip: whether the view was mirrored. With it, 'the car on the left' stays true under random-flip training."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.data.sample import TransformRecord

MIRRORED = 1000.0


class Flip(Control):
    """0 for a view as it was, 1000 for its mirror image. High-level, so it acts at all times by default.

    Not 0 and 1: sinusoidal features hardly tell these apart, and the control would be learned many times later.
    """

    kind: Literal["flip"] = "flip"
    gate: GateConfig = ConstantGate()
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "flip"
    form: ClassVar[str] = "0 or 1"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """1000 when mirrored."""
        return (MIRRORED * record.flip,)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Not mirrored: words like left and right mean what they say."""
        return (0.0,)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """`0` or `1`."""
        if text not in ("0", "1"):
            raise self.misread(text)
        return (MIRRORED * int(text),)
