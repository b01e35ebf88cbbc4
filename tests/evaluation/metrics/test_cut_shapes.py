"""Which pictures show a shape that the border cuts, on pictures painted for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from open_ldm.evaluation.metrics.cut_shapes import at_border
from open_ldm.sources.shape_painting import DrawnShape, Scene, draw

MIDDLE = (0.5, 0.5)
SIDES = {"left": (0.1, 0.5), "right": (0.9, 0.5), "top": (0.5, 0.1), "bottom": (0.5, 0.9)}


def painted(*centres: tuple[float, float], kind: str = "square") -> Tensor:
    """Shapes 0.4 of the picture wide, of different colours, whatever lies outside of it."""
    colours = ("red", "blue")
    shapes = [DrawnShape(colour, kind, "large", "left", *centre, 0.4) for colour, centre in zip(colours, centres, strict=False)]
    return torch.from_numpy(draw(Scene(32, 32, 240, tuple(shapes)))).permute(2, 0, 1)


def told(*pictures: Tensor) -> list[tuple[float, float]]:
    found = at_border(torch.stack(pictures))
    return list(zip(found.cut.tolist(), found.whole.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["circle", "square", "triangle", "cross"])
def test_a_shape_is_whole_in_the_middle_and_cut_at_each_side(kind: str) -> None:
    pictures = [painted(centre, kind=kind) for centre in (MIDDLE, *SIDES.values())]
    assert told(*pictures) == [(0, 1), *[(1, 0)] * 4]


def test_a_pixel_between_shape_and_border_is_enough() -> None:
    for free, cut in ((0, 1), (1, 0), (2, 0)):
        picture = torch.full((3, 32, 32), 240, dtype=torch.uint8)
        picture[1:, 10:20, free : free + 8] = 30
        assert told(picture) == [(cut, 1 - cut)]


def test_one_of_two_shapes_that_is_cut_cuts_the_picture_and_none_is_neither() -> None:
    empty = torch.full((3, 32, 32), 240, dtype=torch.uint8)
    speck = empty.clone()
    speck[1:, 10:13, 0] = 30  # three pixels of 1,024 are no shape
    both = [painted((0.25, 0.3), (0.7, 0.7)), painted((0.25, 0.3), (0.7, 0.9))]
    assert told(*both, empty, speck) == [(0, 1), (1, 0), (0, 0), (0, 0)]
