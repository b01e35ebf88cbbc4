"""Entangled data: how a picture is made depends on what it shows, as it does in many collections.

A size or a crop offset is a number u, uniform in [0, 1), before it becomes pixels. What the picture shows is one of n options,
and option k stands for the k-th of n equal parts of [0, 1). With the probability `strength` a picture takes u from its own
part, and otherwise u stays independent of what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from open_ldm.core.config import Config


@dataclass(frozen=True)
class RangePart:
    """The part number `index` (from 0) of `count` equal parts of a range."""

    index: int
    count: int

    def within(self, u: float) -> float:
        """Map u in [0, 1) to the part: (index + u) / count."""
        return (self.index + u) / self.count

    def steps(self, last: int) -> tuple[int, int]:
        """Return the first and the last of the whole numbers 0..`last` that belong to the part; never none."""
        start = min(self.index * (last + 1) // self.count, last)
        return start, max(start, (self.index + 1) * (last + 1) // self.count - 1)


@dataclass(frozen=True)
class ViewPreference:
    """How a source wants the views of one picture to be cut.

    Attributes:
        strength: Probability that a view follows the preference, drawn for each view. Otherwise it is cut as without one.
        crop: Part of the possible crop offsets, from the top and from the left, that views are cut at; None for all.
        flip: Whether views are mirrored; None leaves it to the transform.
    """

    strength: float
    crop: RangePart | None = None
    flip: bool | None = None


class EntangleShapesConfig(Config):
    """What about a picture of shapes depends on its first shape, and how often.

    Attributes:
        size: What decides the original size. Its options divide the range of short sides, on a log scale, into equal parts.
        crop: `place`: views are cut at the first half of the possible offsets if the shape is on the left, else at the second.
        flip: `place`: a view is mirrored if the shape is on the right.
        strength: Probability that it does. At 0 nothing depends on the shapes.
    """

    size: Literal["colour", "kind", "place"] | None = None
    crop: Literal["place"] | None = None
    flip: Literal["place"] | None = None
    strength: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _something_is_entangled(self) -> EntangleShapesConfig:
        if (self.size, self.crop, self.flip) == (None, None, None):
            raise ValueError("entangle says nothing but a strength; needed: size, crop or flip, such as {size: colour}")
        return self
