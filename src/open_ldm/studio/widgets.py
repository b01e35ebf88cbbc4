"""Every control of a model as a widget of its own, as plain data: what can be set, in which range, and how it is asked for.

A control of one's own program that this file does not know gets a text field, read by the control itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.controls import AspectRatio, Colour, Crop, Flip, JpegQuality, Metadata, OriginalSize, Turn
from open_ldm.controls.base import Control, ViewShape
from open_ldm.core.files import read_json_object
from open_ldm.data.columns import spelt
from open_ldm.run_folder.history import lookup
from open_ldm.studio.models import ModelFacts

Value = float | str | bool
OPEN = "left open"
"""What a page calls a control that is asked for as an empty text, which is not the model's default."""
_SWEEP_VALUES = 6
_STEPS_OF_A_COLUMN = 200


@dataclass(frozen=True)
class Slider:
    """A number between two others."""

    label: str
    low: float
    high: float
    value: float
    step: float


@dataclass(frozen=True)
class Choice:
    """One of several words; an empty one leaves the control open."""

    label: str
    choices: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class Check:
    """Yes or no."""

    label: str
    value: bool = False


@dataclass(frozen=True)
class Text:
    """Anything that the control itself can read; empty leaves the default."""

    label: str
    hint: str
    value: str = ""


Part = Slider | Choice | Check | Text


@dataclass(frozen=True)
class Widget:
    """One control. `parts`: what a user sets; `option`: what the control is called; `sweep`: values worth comparing."""

    option: str
    parts: tuple[Part, ...]
    sweep: tuple[str, ...]
    joined: Callable[[Sequence[Value]], str | None] = field(repr=False)

    def text(self, values: Sequence[Value]) -> str | None:
        """Return the values of the parts as `ldm sample OPTION=VALUE` takes them; None for the model's default."""
        return self.joined(values)


def widgets_of(facts: ModelFacts) -> tuple[Widget, ...]:
    """Return a widget for each control of a model, in the order of its recipe."""
    view, sides = facts.known.facts.view, size_range(facts)
    return tuple(widget_of(control, view, sides) for control in facts.recipe.conditioning.controls)


def widget_of(control: Control, view: ViewShape, sides: tuple[int, int]) -> Widget:
    """Return the widget of one control.

    Args:
        control: The control.
        view: What the model recorded of its data.
        sides: Smallest and largest side of the originals, in pixels.
    """
    match control:
        case OriginalSize():
            return _original_size(control, view, sides)
        case Crop():
            return _crop(control, view)
        case Flip():
            return Widget(control.asked_as, (Check("mirrored"),), ("0", "1"), lambda values: str(int(bool(values[0]))))
        case Turn():
            turns = ("0", "90", "180", "270") if view.height_px == view.width_px else ("0", "180")
            return Widget(control.asked_as, (Choice("degrees clockwise", turns, "0"),), turns, _first)
        case Colour():
            return _colour(control, view)
        case JpegQuality():
            quality = Slider("JPEG quality", 1, 100, 100, 1)
            return Widget(control.asked_as, (quality,), ("10", "30", "50", "75", "90", "100"), _first)
        case AspectRatio():
            return _aspect_ratio(control, view)
        case Metadata():
            return _column(control, view)
        case _:
            return Widget(control.asked_as, (Text(control.asked_as, control.form),), (), _typed)


def size_range(facts: ModelFacts) -> tuple[int, int]:
    """Return the smallest and the largest side of the originals that a model was trained on, in pixels.

    A source that makes its sizes says them; for files the survey of the run does, and without it what is usual times 4.
    """
    source = facts.recipe.data.source
    made = getattr(source, "short_side_px", None)
    if made is not None:
        return int(made[0]), int(made[1])
    surveyed = _surveyed(facts)
    if surveyed is not None:
        return surveyed
    usual = facts.known.facts.view.typical_original_px
    return max(1, usual // 4), 4 * usual


def _surveyed(facts: ModelFacts) -> tuple[int, int] | None:
    survey = read_json_object(run_folder_of(facts.path) / "data.json").get("survey")
    ends = [lookup(survey, f"{side}.{end}") for side in ("height_px", "width_px") for end in ("smallest", "largest")]
    numbers = [end for end in ends if isinstance(end, int | float) and math.isfinite(end) and end >= 1]
    return (int(min(numbers)), int(max(numbers))) if len(numbers) == len(ends) else None


def _original_size(control: Control, view: ViewShape, sides: tuple[int, int]) -> Widget:
    low, high = sides
    usual = min(max(view.typical_original_px, low), high)
    parts = tuple(Slider(f"original {name} (px)", low, high, usual, 1) for name in ("height", "width"))
    spread = [round(low * (high / low) ** (step / (_SWEEP_VALUES - 1))) for step in range(_SWEEP_VALUES)]
    return Widget(
        control.asked_as,
        parts,
        tuple(f"{side}x{side}" for side in dict.fromkeys(spread)),
        lambda values: f"{_number(values[0])}x{_number(values[1])}",
    )


def _crop(control: Control, view: ViewShape) -> Widget:
    most = view.height_px, view.width_px
    parts = tuple(Slider(f"crop from the {name} (px)", 0, side, 0, 1) for name, side in zip(("top", "left"), most, strict=True))
    corners = [(0, 0), (0, most[1] // 4), (0, most[1] // 2), (most[0] // 4, 0), (most[0] // 2, 0)]
    sweep = tuple(f"{top},{left}" for top, left in corners)
    return Widget(control.asked_as, parts, sweep, lambda values: f"{_number(values[0])},{_number(values[1])}")


def _colour(control: Control, view: ViewShape) -> Widget:
    saturation, brightness = (number / 10 for number in control.default(view))
    parts = (Slider("saturation (%)", 0, 100, saturation, 0.5), Slider("brightness (%)", 0, 100, brightness, 0.5))
    sweep = tuple(f"{value},{_number(brightness)}" for value in (0, 10, 20, 40, 60, 80))
    return Widget(control.asked_as, parts, sweep, lambda values: f"{_number(values[0])},{_number(values[1])}")


def _aspect_ratio(control: Control, view: ViewShape) -> Widget:
    usual = f"{view.width_px}:{view.height_px}"
    ratios = ("1:2", "9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9", "2:1")
    square = usual if view.width_px != view.height_px else "1:1"
    choices = tuple(dict.fromkeys((square, *ratios)))
    return Widget(control.asked_as, (Choice("width : height", choices, square),), ("1:2", "3:4", "1:1", "4:3", "2:1"), _first)


def _column(control: Metadata, view: ViewShape) -> Widget:
    facts = view.column(control.column)
    name = control.asked_as
    if facts is None:
        return Widget(name, (Text(name, control.form),), (), _typed)
    sweep = control.examples(view, _SWEEP_VALUES)
    if facts.words:
        return Widget(name, (Choice(name, (*facts.words, ""), str(facts.usual)),), sweep, _first)
    low, high = facts.smallest or 0.0, facts.largest or 0.0
    whole = all(float(end).is_integer() for end in (low, high)) and high - low >= _STEPS_OF_A_COLUMN / 10
    step = 1.0 if whole else (high - low) / _STEPS_OF_A_COLUMN
    label = f"{name} ({spelt(low)} to {spelt(high)} in training)"
    median = low if facts.median is None else facts.median
    parts = (Slider(label, low, high, median, step), Check(f"{name} {OPEN}"))
    return Widget(name, parts, sweep, lambda values: "" if values[1] else _first(values))


def _first(values: Sequence[Value]) -> str:
    value = values[0]
    return value.strip() if isinstance(value, str) else _number(value)


def _typed(values: Sequence[Value]) -> str | None:
    """What stands in a text field; nothing for the model's default."""
    return _first(values) or None


def _number(value: Value) -> str:
    return spelt(float(value))
