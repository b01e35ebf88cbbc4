"""The captions that the demo and the studies on drawings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.data.shape_words import HELD_OUT, KINDS, PLACES, SIZES, ShapeWords, write_caption
from open_ldm.sources.shapes import ShapesConfig

UNSEEN = "one shape, unseen combination"
_EVERY = ShapesConfig()
_UNSEEN_PICTURES = 64
"""Of captions never seen there are few, so that each is sampled from several seeds."""


def caption_groups(drawings: ShapesConfig = _EVERY) -> dict[str, tuple[str, ...]]:
    """Captions to check: one shape in combinations never seen, one shape in seen ones, two shapes.

    Args:
        drawings: Which colours and sizes occur. Where all combinations are trained on, there is no group of unseen ones.
    """
    nouns = [(size, place) for size in drawings.sizes for place in PLACES]
    never = [pair for pair in HELD_OUT if pair[0] in drawings.colours and drawings.split == "train"]
    unseen = [write_caption([ShapeWords(*pair, *noun)]) for pair in never for noun in nouns]
    pairs = [(colour, kind) for colour in drawings.colours for kind in KINDS if (colour, kind) not in never]
    seen = [write_caption([ShapeWords(*pair, *noun)]) for pair in pairs for noun in nouns]
    two = []
    for i, (colour, kind) in enumerate(pairs):
        other = next(pair for pair in (pairs[(i + 7 + j) % len(pairs)] for j in range(len(pairs))) if pair[0] != colour)
        first = ShapeWords(colour, kind, SIZES[i % 2], PLACES[(i // 2) % 2])
        two.append(write_caption([first, ShapeWords(*other, SIZES[(i + 1) % 2], "")]))
    found = {"one shape": tuple(seen), "two shapes": tuple(two)}
    if unseen:
        found = {UNSEEN: tuple(unseen * -(-_UNSEEN_PICTURES // len(unseen))), **found}
    return found


def untold_captions(drawings: ShapesConfig, count: int) -> Sequence[str]:
    """Captions that leave the colour open: every size that occurs, kind and place in turn."""
    nouns = [(kind, size, place) for kind in KINDS for size in drawings.sizes for place in PLACES]
    every = [write_caption([ShapeWords("", kind, size, place)], ("colour",)) for kind, size, place in nouns]
    return [every[i % len(every)] for i in range(count)]
