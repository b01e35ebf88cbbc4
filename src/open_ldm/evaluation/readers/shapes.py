"""Reads drawings of shapes by rules, with `shape_attributes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.evaluation.features.base import ROUNDING, ExtractorId
from open_ldm.evaluation.readers.base import PLACE, Reading
from open_ldm.evaluation.shape_attributes import SeenShape, read_shapes

ATTRIBUTES = ("colour", "kind", PLACE, "size", "count")
READ_WHEN_COARSE = ("colour", PLACE, "size", "count")
"""What is still read off an original of 8 px. Kinds are not: one real drawing in five is read as another kind there."""
_RULE = "rule 1"
"""Changes with what `read_shapes` or `reading_of` tell of a picture."""


class ShapesReaderConfig(Config):
    """Colour, kind, place, size and number of the shapes of a drawing; it was fitted on nothing."""

    kind: Literal["shapes"] = "shapes"


class ShapesReader:
    """Reads pictures by `reading_of`."""

    id = ExtractorId("shapes reader", _RULE, "none", ROUNDING)
    attributes: tuple[str, ...] = ATTRIBUTES

    def read(self, pixels: Tensor) -> list[Reading]:
        """Read pictures uint8 [B, 3, H, W]."""
        return [reading_of(read_shapes(one)) for one in pixels.cpu()]


def reading_of(shapes: Sequence[SeenShape]) -> Reading:
    """Return the attributes of a picture that shows `shapes`.

    Colours, kinds and sizes do not depend on where the shapes lie. The place of one shape is its half of the picture, that of
    several is the side of each from the middle between them, in the order of their colours and kinds.
    """
    ordered = sorted(shapes, key=lambda shape: (shape.colour, shape.kind, -shape.extent))
    middle = 0.5 if len(ordered) == 1 else sum(shape.x for shape in ordered) / max(1, len(ordered))
    return {
        "colour": tuple(shape.colour for shape in ordered),
        "kind": tuple(sorted(shape.kind for shape in ordered)),
        PLACE: tuple("left" if shape.x < middle else "right" for shape in ordered),
        "size": tuple(sorted(shape.size for shape in ordered)),
        "count": len(ordered),
    }
