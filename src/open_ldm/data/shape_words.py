"""The closed vocabulary of the `shapes` source, and its captions, which are written and read back here.

The source that makes the pictures and the metric that reads them share this file and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from open_ldm.core.errors import ConfigError

Colour = Literal["red", "green", "blue", "yellow", "purple", "black"]

COLOURS: tuple[Colour, ...] = ("red", "green", "blue", "yellow", "purple", "black")
KINDS = ("circle", "square", "triangle", "cross")
Size = Literal["small", "large"]

SIZES: tuple[Size, ...] = ("small", "large")
PLACES = ("left", "right")

Told = Literal["size", "colour", "kind", "place"]
"""What a caption tells of a shape, unless it is left untold."""

HELD_OUT = (("red", "triangle"), ("green", "circle"), ("blue", "cross"), ("yellow", "square"))
"""Combinations that no training picture shows, though each of their colours and kinds appears in others."""

CLASS_NAMES = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)
"""One class for each colour and kind, held out or not."""

_ANY_KIND = "shape"
"""The noun of a caption that does not tell the kind."""


@dataclass(frozen=True)
class ShapeWords:
    """One shape as a caption describes it; what the caption does not tell is empty.

    `place` is its half of the picture, or with two shapes its side.
    """

    colour: str
    kind: str
    size: str
    place: str

    @property
    def class_name(self) -> str:
        """The class of a picture whose first shape this is: colour and kind, or the one of them that is told, or ''."""
        return f"{self.colour} {self.kind}".strip()

    def telling(self, untold: Collection[str]) -> ShapeWords:
        """Return the words without those named in `untold`: colour, kind, size or place."""
        names = ("colour", "kind", "size", "place")
        return ShapeWords(*("" if name in untold else getattr(self, name) for name in names))


def write_caption(shapes: Sequence[ShapeWords], untold: Collection[str] = ()) -> str:
    """Write what is told of one or two shapes.

    Args:
        shapes: One shape, or the two of a picture.
        untold: What the caption leaves out: colour, kind, size or place.

    Returns:
        'a large red circle on the left' or 'a small blue square to the left of a large green cross'. Without the colour 'a
        large circle on the left', without the kind 'a large red shape on the left', without the place 'a large red circle' or
        'a small blue square and a large green cross'.
    """
    told = [shape.telling(untold) for shape in shapes]
    first, *others = [_noun(shape) for shape in told]
    place = told[0].place
    if not others:
        return f"{first} on the {place}" if place else first
    return f"{first} to the {place} of {others[0]}" if place else f"{first} and {others[0]}"


def _noun(shape: ShapeWords) -> str:
    return " ".join(word for word in ("a", shape.size, shape.colour, shape.kind or _ANY_KIND) if word)


def shapes_in(caption: str) -> tuple[ShapeWords, ...]:
    """Read the shapes of a caption, the inverse of `write_caption`. Raises ConfigError for any other sentence."""
    noun = rf"a (?:({'|'.join(SIZES)}) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(KINDS)}|{_ANY_KIND})"
    place = "|".join(PLACES)
    sentence = rf"{noun}(?: on the ({place})|(?: to the ({place}) of| and) {noun})?"
    match = re.fullmatch(sentence, " ".join(caption.split()))
    if match is None:
        raise ConfigError(
            f"{caption!r} is not a caption of the shapes",
            needed=f"colours {', '.join(COLOURS)}; kinds {', '.join(KINDS)}; sizes {', '.join(SIZES)}",
            fix="for example 'a large red circle on the left', 'a small red cross to the left of a large blue square'",
        )
    size, colour, kind, alone, relative, other_size, other_colour, other_kind = (word or "" for word in match.groups())
    first = ShapeWords(colour, kind.replace(_ANY_KIND, ""), size, alone or relative)
    if not other_kind:
        return (first,)
    other_place = PLACES[1 - PLACES.index(relative)] if relative else ""
    return (first, ShapeWords(other_colour, other_kind.replace(_ANY_KIND, ""), other_size, other_place))
