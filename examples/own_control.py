"""A control condition of your own, in one file: how many times smaller than its original each training picture is.

python examples/own_control.py

A control turns the record of how a view was made (sizes, crop, flip) into a few numbers. They enter on the modulation path
through a gate in time, apart from what the picture shows. A recipe may name any control whose class is defined before the
recipe is loaded: here in the same file, or in a module of yours that the program imports. To sample from such a run later,
define or import the class again; `ldm sample` does not know it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

import open_ldm as ldm
from open_ldm.controls import Control, ViewShape
from open_ldm.controls.gate import GateConfig, PowerCosineGate
from open_ldm.data.sample import TransformRecord

OUT = Path(os.environ.get("OUT", "runs/own-control"))
SETTINGS = os.environ.get("SETTINGS", "").split()  # for a first try: SETTINGS="training.samples=3200"


class Shrunk(Control):
    """How many times the picture was shrunk. It changes detail and not content, so its gate opens late."""

    kind: Literal["shrunk"] = "shrunk"
    gate: GateConfig = PowerCosineGate(alpha=4.0)
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "shrunk"
    form: ClassVar[str] = "TIMES, e.g. shrunk=2.5"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        """The number for one training picture: 100 times the ratio, since numbers should lie between 1 and 1000."""
        return (100 * record.original_height_px / record.scaled_height_px,)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        """The number for a sample of which nothing is said: that of the usual training picture."""
        return (100 * view.typical_original_px / min(view.height_px, view.width_px),)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        """The number for what a user types."""
        try:
            times = float(text)
        except ValueError:
            raise self.misread(text) from None
        if not 0 < times < 1000:
            raise self.misread(text)
        return (100 * times,)


def main() -> None:
    """Train the demo's model with the new control, then sample the same noise under three of its values."""
    controls = [{"kind": "shrunk"}, {"kind": "flip"}]
    run = ldm.train("demo", {"name": "own-control", "conditioning.controls": controls}, *SETTINGS, out=OUT)
    for times in (1, 2, 4):
        samples = run.sample("a large red circle on the left", seed=7, shrunk=times)
        print(samples.save(OUT / f"shrunk-{times}").sentence())


if __name__ == "__main__":
    main()
