"""Turn: by how many degrees the view was turned, for pictures that have no up. It is a high-level control."""

from __future__ import annotations

from typing import ClassVar, Literal

from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import Source, TransformRecord
from open_ldm.data.survey import DataSurvey
from open_ldm.data.transforms import TransformConfig

_APART = 1000.0
_DEGREES = ("0", "90", "180", "270")


class Turn(Control):
    """Two numbers, each 0 or 1000: the last binary digit of the number of clockwise quarter turns, and the first.

    0 degrees is (0, 0), 90 is (1000, 0), 180 is (0, 1000), 270 is (1000, 1000). As for flip, 0 and 1 would hardly differ in
    sinusoidal features. The control flip states the mirroring; together they name one of the 8 symmetries of the square.

    Differs from the paper, which has no such control.
    """

    kind: Literal["turn"] = "turn"
    gate: GateConfig = ConstantGate()
    numbers: ClassVar[int] = 2
    option: ClassVar[str] = "turn"
    form: ClassVar[str] = "0, 90, 180 or 270, degrees clockwise"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """Return the digits of the number of quarter turns."""
        return _digits(record.quarter_turns)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """Return those of an upright view."""
        return _digits(0)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """Read `0`, `90`, `180` or `270`; views that are not square have only half turns."""
        if text not in _DEGREES:
            raise self.misread(text)
        turns = _DEGREES.index(text)
        if turns % 2 and view.height_px != view.width_px:
            size = f"{view.height_px}x{view.width_px}"
            raise ConfigError(f"turn={text} of pictures of {size} px", needed="turn=0 or 180, since they are not square")
        return _digits(turns)

    def check(self, source: Source, seen: DataSurvey, transform: TransformConfig) -> None:
        """Refuse views that are never turned."""
        if transform.turn == "none":
            raise ConfigError(
                "control turn has nothing to learn from: data.transform.turn is none",
                needed="views that are turned",
                fix="data.transform.turn=quarter (or half), or leave {kind: turn} out of conditioning.controls",
            )


def _digits(turns: int) -> tuple[float, float]:
    return _APART * (turns % 2), _APART * (turns // 2)
