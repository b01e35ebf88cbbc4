"""Every control has its widget, whose start is the model's default and whose text the control reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from open_ldm.controls import AspectRatio, Colour, Control, Crop, Flip, JpegQuality, Metadata, OriginalSize, Turn, ViewShape
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.controls.gate import ConstantGate, GateConfig
from open_ldm.studio.models import Models
from open_ldm.studio.widgets import Check, Choice, Slider, Text, Value, widget_of, widgets_of

NUMBERS = ColumnFacts("magnification", 100, 0, scale="linear", mean=20.0, std=10.0, smallest=5.0, median=20.0, largest=40.0)
WORDS = ColumnFacts("stain", 100, 0, words=("HE", "PAS"), usual="PAS")
VIEW = ViewShape(32, 32, 96, typical_saturation=30.0, typical_brightness=50.0, columns=(NUMBERS, WORDS))
EVERY = (OriginalSize(), Crop(), Flip(), AspectRatio(), Colour(), JpegQuality(), Turn(), Metadata(column="stain"))


def start(widget: Any) -> Sequence[Value]:
    return [part.value for part in widget.parts]


@pytest.mark.parametrize("control", [*EVERY, Metadata(column="magnification")], ids=lambda one: one.asked_as)
def test_it_starts_at_the_models_default_and_every_value_can_be_asked_for(control: Control) -> None:
    fitted = control.fitted(VIEW)
    widget = widget_of(fitted, VIEW, (24, 512))
    assert fitted.read(widget.text(start(widget)) or "", VIEW) == pytest.approx(fitted.default(VIEW))
    assert len(widget.sweep) >= 2
    numbers = {fitted.read(value, VIEW) for value in widget.sweep}
    assert len(numbers) == len(widget.sweep)


def test_columns_have_the_ranges_and_the_words_of_training() -> None:
    numbers = widget_of(Metadata(column="magnification").fitted(VIEW), VIEW, (1, 2))
    number, is_open = numbers.parts
    assert isinstance(number, Slider) and (number.low, number.high, number.value) == (5.0, 40.0, 20.0)
    assert "5 to 40" in number.label
    assert is_open == Check("magnification left open") and (numbers.text([20.0, False]), numbers.text([20.0, True])) == (
        "20",
        "",
    )
    words = widget_of(Metadata(column="stain").fitted(VIEW), VIEW, (1, 2))
    assert words.parts == (Choice("stain", ("HE", "PAS", ""), "PAS"),) and words.text([""]) == ""


def test_the_ends_of_every_slider_can_be_asked_for() -> None:
    for control in (OriginalSize(), Colour(), JpegQuality(), Crop(), Metadata(column="magnification").fitted(VIEW)):
        widget = widget_of(control, VIEW, (24, 512))
        for end in ("low", "high"):
            asked = widget.text([getattr(part, end, False) for part in widget.parts])
            assert asked is not None
            control.read(asked, VIEW)


def test_a_control_of_ones_own_gets_a_text_field() -> None:
    class Zoom(Control):
        kind: str = "zoom"
        gate: GateConfig = ConstantGate()
        numbers = 1
        option = "zoom"
        form = "a number"

        def of(self, record: Any) -> tuple[float, ...]:
            return (1.0,)

        def default(self, view: ViewShape) -> tuple[float, ...]:
            return (1.0,)

        def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
            return (float(text),)

    widget = widget_of(Zoom(), VIEW, (1, 2))
    assert widget.parts == (Text("zoom", "a number"),) and widget.text([" 3 "]) == "3" and widget.text([" "]) is None


def test_sizes_range_over_the_originals_of_the_run(models: Models) -> None:
    widgets = {widget.option: widget for widget in widgets_of(models.facts("improved"))}
    assert list(widgets) == ["size", "crop", "flip", "aspect"]
    height = widgets["size"].parts[0]
    assert (height.low, height.high) == (20, 160)
    assert widgets["crop"].parts[1].high == 16
