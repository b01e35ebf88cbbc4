"""The closed vocabulary of the `shapes` source, and its captions, which are written and read back here.

The source that makes the pictures and the metric that reads them share this file and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.core.errors import ConfigError

COLOURS = ("red", "green", "blue", "yellow", "purple", "black")
KINDS = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
PLACES = ("left", "right")

HELD_OUT = (("red", "triangle"), ("green", "circle"), ("blue", "cross"), ("yellow", "square"))
"""Combinations that no training picture shows, though each of their colours and kinds appears in others."""

CLASS_NAMES = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)
"""One class for each colour and kind, held out or not."""


@dataclass(frozen=True)
class ShapeWords:
    """One shape as a caption describes it. `place` is its half of the picture, or with two shapes its side."""

    colour: str
    kind: str
    size: str
    place: str

    @property
    def class_name(self) -> str:
        """The class of a picture whose first shape this is."""
        return f"{self.colour} {self.kind}"


def write_caption(shapes: Sequence[ShapeWords]) -> str:
    """Write 'a large red circle on the left' or 'a small blue square to the left of a large green cross'."""
    first, *others = [f"a {shape.size} {shape.colour} {shape.kind}" for shape in shapes]
    if not others:
        return f"{first} on the {shapes[0].place}"
    return f"{first} to the {shapes[0].place} of {others[0]}"


def shapes_in(caption: str) -> tuple[ShapeWords, ...]:
    """Read the shapes of a caption, the inverse of `write_caption`. Raises ConfigError for any other sentence."""
    noun = rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
    match = re.fullmatch(rf"{noun} (?:on the (left|right)|to the (left|right) of {noun})", " ".join(caption.split()))
    if match is None:
        raise ConfigError(
            f"{caption!r} is not a caption of the shapes",
            needed=f"colours {', '.join(COLOURS)}; kinds {', '.join(KINDS)}; sizes {', '.join(SIZES)}",
            fix="for example 'a large red circle on the left', 'a small red cross to the left of a large blue square'",
        )
    size, colour, kind, alone, relative, other_size, other_colour, other_kind = match.groups()
    if alone:
        return (ShapeWords(colour, kind, size, alone),)
    other_place = PLACES[1 - PLACES.index(relative)]
    return (
        ShapeWords(colour, kind, size, relative),
        ShapeWords(other_colour, other_kind, other_size, other_place),
    )
