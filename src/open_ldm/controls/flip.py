"""Flip: whether the view was mirrored. With this control 'the car on the left' stays true when training flips pictures."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.data.sample import TransformRecord

MIRRORED = 1000.0


class Flip(Control):
    """0 for a view as it was, 1000 for its mirror image. The control is high-level, so it acts at all times by default.

    The numbers are not 0 and 1 because sinusoidal features hardly distinguish these, and the control would be learned much
    later.
    """

    kind: Literal["flip"] = "flip"
    gate: GateConfig = ConstantGate()
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "flip"
    form: ClassVar[str] = "0 or 1"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return 1000 for a mirrored view, 0 otherwise."""
        return (MIRRORED * record.flip,)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return 0, not mirrored, so that words like left and right keep their meaning."""
        return (0.0,)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `0` or `1`."""
        if text not in ("0", "1"):
            raise self.misread(text)
        return (MIRRORED * int(text),)
