"""A recipe may name a control that a program defines."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
from pydantic import field_validator

from open_ldm.conditioning import ConditioningConfig
from open_ldm.controls import Control, Crop, Flip, ViewShape
from open_ldm.controls import own as own_module
from open_ldm.controls.gate import ConstantGate, GateConfig, PowerCosineGate
from open_ldm.controls.own import own_controls
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import TransformRecord


class Stretched(Control):
    kind: Literal["stretched"] = "stretched"
    gate: GateConfig = ConstantGate()
    weight: float = 1.0
    numbers: ClassVar[int] = 1
    option: ClassVar[str] = "stretched"
    form: ClassVar[str] = "TIMES"

    @field_validator("weight")
    @classmethod
    def _is_no_shrinking(cls, given: float) -> float:
        if given < 0:
            raise ValueError("it must not be negative")
        return given

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        return (self.weight * record.scaled_width_px / record.original_width_px,)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        return (1.0,)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        return (float(text),)


def conditioning(*controls: Any) -> ConditioningConfig:
    return validate(ConditioningConfig, {"controls": list(controls)}, source="recipe")


def test_it_is_read_written_and_read_again() -> None:
    given = conditioning({"kind": "stretched", "weight": 3, "gate": {"kind": "power_cosine", "alpha": 2}}, {"kind": "flip"})
    assert given.controls == (Stretched(weight=3, gate=PowerCosineGate(alpha=2)), Flip())
    content = given.model_dump(mode="json")
    gate = {"kind": "power_cosine", "alpha": 2.0, "clock": "noise_level"}
    assert content["controls"][0] == {"kind": "stretched", "gate": gate, "weight": 3.0}
    assert validate(ConditioningConfig, content, source="recipe") == given
    assert conditioning(Stretched(), Crop()).controls == (Stretched(), Crop())


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"kind": "stretched", "wait": 3}, "wait"),
        ({"kind": "stretched", "weight": -1}, "controls.0: weight: it must not be negative"),
        ({"kind": "stretchd"}, "controls.0.kind='stretchd' is unknown"),
        ({"kind": "crop", "weight": 3}, "unknown key 'controls.0.weight'"),
        ({"weight": 3}, "controls.0.kind' is missing"),
        ("stretched", "controls.0"),
        ({"kind": ["stretched"]}, "controls.0"),
    ],
)
def test_mistakes_are_told_with_their_place(control: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        conditioning(control)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_class_defined_last_counts() -> None:
    class First(Stretched):
        kind: Literal["again"] = "again"  # type: ignore[assignment]

    first = First()
    assert own_controls()["again"] is First

    class Second(First):
        weight: float = 5.0

    assert conditioning({"kind": "again"}).controls == (Second(),)
    assert conditioning(first).controls == (first,)  # an object of the older class is still what it was


def test_a_kind_of_the_package_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_module, "_kind", lambda control: "crop")
    with pytest.raises(ConfigError, match="control kind 'crop' is one of open_ldm's own; needed: another kind for "):
        conditioning({"kind": "crop"})
