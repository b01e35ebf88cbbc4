"""Captions of one shape in 1 to 20 words: the same facts said in as many words as asked, fewer facts below three words.

The usual sentence (`data/shape_words.py`) has 7 words for one shape; these captions fill more or less of a text encoder's
places. Every word that tells a fact has one meaning, so that a caption of any length is read back word by word.
"""

from __future__ import annotations

from open_ldm.core.errors import ConfigError
from open_ldm.data.shape_words import COLOURS, KINDS, PLACES, SIZES, ShapeWords

_NOUN = "a {size} {colour} {kind} on the {place}"
_WORDINGS: tuple[tuple[str, ...], ...] = (
    ("{colour}", "{kind}", "{place}"),
    ("{colour} {kind}", "{colour} {place}", "{kind} {place}"),
    ("{colour} {kind} {place}",),
    ("{size} {colour} {kind} {place}",),
    ("a {size} {colour} {kind} {place}",),
    ("{size} {colour} {kind} on the {place}",),
    (_NOUN,),
    (f"{_NOUN} side",),
    (f"there is {_NOUN}",),
    (f"there is {_NOUN} side",),
    (f"a picture of {_NOUN} side",),
    (f"this is a picture of {_NOUN}",),
    (f"this is a picture of {_NOUN} side",),
    (f"this is a plain picture of {_NOUN} side",),
    (f"this is a plain picture and there is {_NOUN}",),
    (f"this is a plain picture and there is {_NOUN} side",),
    (f"this is a plain picture of one shape which is {_NOUN}",),
    (f"this is a plain picture of one shape which is {_NOUN} side",),
    (f"this is a plain picture of one shape and there is {_NOUN} side",),
    (f"this is a plain picture of one shape which is {_NOUN} side of it",),
)
"""The captions of 1, 2, ... words. One word is a colour, a kind or a place, two are two of them; the size is told from four
words on."""

LONGEST = len(_WORDINGS)
"""Words of the longest caption."""


def captions_of_length(shape: ShapeWords, words: int) -> tuple[str, ...]:
    """Write a shape's captions of a number of words.

    Args:
        shape: With all that there is to tell.
        words: Number of words, 1 to `LONGEST`.

    Returns:
        Three captions that tell different facts for one word and for two, such as 'red', 'circle' and 'left'; else the one
        caption of this length, which tells all: 'red circle left', or 'there is a large red circle on the left'.
    """
    facts = {"size": shape.size, "colour": shape.colour, "kind": shape.kind, "place": shape.place}
    return tuple(wording.format(**facts) for wording in _WORDINGS[words - 1])


def told_by(caption: str) -> ShapeWords:
    """Read what a caption of `captions_of_length` tells; the rest is empty. Raises ConfigError where it tells nothing."""
    said = caption.split()

    def one_of(options: tuple[str, ...]) -> str:
        return next((word for word in said if word in options), "")

    told = ShapeWords(one_of(COLOURS), one_of(KINDS), one_of(SIZES), one_of(PLACES))
    if not any(vars(told).values()):
        raise ConfigError(
            f"{caption!r} tells nothing of a shape",
            needed="a colour, a kind, a size or a place",
            fix="for example 'red circle'",
        )
    return told
