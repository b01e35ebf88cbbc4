"""What every reader of pictures offers: a few named attributes of each picture, which can be compared for equality."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Protocol

from torch import Tensor

from open_ldm.evaluation.features.base import ExtractorId

Reading = Mapping[str, Hashable]
"""Attribute -> what the picture shows of it."""

PLACE = "place"
"""The attribute that says on which side things are: a tuple of 'left' and 'right'."""

_OTHER_SIDE = {"left": "right", "right": "left"}


class Reader(Protocol):
    """Reads pictures. It was never shown a sample of a model.

    Attributes:
        id: Everything that decides what it reads, for protocols.
        attributes: What it reads of every picture.
    """

    id: ExtractorId
    attributes: tuple[str, ...]

    def read(self, pixels: Tensor) -> list[Reading]:
        """Read pictures uint8 [B, C, H, W]."""


def mirrored(reading: Reading) -> Reading:
    """Return what the mirror image of a picture shows: left and right are exchanged in `place`."""
    sides = reading.get(PLACE)
    if not isinstance(sides, tuple):
        return reading
    return {**reading, PLACE: tuple(_OTHER_SIDE.get(side, side) for side in sides)}
