"""Painting of shapes: what a picture shows, as numbers, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from open_ldm.data.shape_words import ShapeWords

_RGB = {
    "red": (215, 35, 45),
    "green": (30, 165, 60),
    "blue": (40, 80, 220),
    "yellow": (242, 208, 30),
    "purple": (145, 55, 175),
    "black": (20, 20, 20),
}
_SUPERSAMPLING = 4
_FINE_SUPERSAMPLING = 32
"""For pictures below `_FINE_BELOW_PX`, whose shapes are only a few pixels wide."""
_FINE_BELOW_PX = 20


@dataclass(frozen=True)
class DrawnShape(ShapeWords):
    """Ground truth of one shape.

    `x` and `y` are the centre as a fraction of the picture's width and height; `extent` is the side of the bounding box as a
    fraction of the picture's short side.
    """

    x: float
    y: float
    extent: float


@dataclass(frozen=True)
class Scene:
    """All that a picture shows: its size, the grey level of the background 0..255, and the shapes in caption order."""

    height_px: int
    width_px: int
    background: int
    shapes: tuple[DrawnShape, ...]


def draw(scene: Scene) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Paint a scene with antialiased edges as uint8 [H, W, 3]. Only each shape's own box is supersampled."""
    canvas = Image.new("RGB", (scene.width_px, scene.height_px), (scene.background,) * 3)
    short = min(scene.height_px, scene.width_px)
    scale = _SUPERSAMPLING if short >= _FINE_BELOW_PX else _FINE_SUPERSAMPLING
    for shape in scene.shapes:
        side = shape.extent * short
        left, top = shape.x * scene.width_px - side / 2, shape.y * scene.height_px - side / 2
        corner = (int(left // 1), int(top // 1))
        box_px = int(side) + 2
        mask = Image.new("L", (box_px * scale, box_px * scale), 0)
        inside = [(left - corner[0]) * scale, (top - corner[1]) * scale]
        _fill(ImageDraw.Draw(mask), shape.kind, inside[0], inside[1], side * scale)
        canvas.paste(_RGB[shape.colour], corner, mask.reduce(scale))
    return np.array(canvas)


def _fill(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, side: float) -> None:
    """Fill a shape whose bounding box has its upper left corner at (x, y), in supersampled pixels."""
    # Pillow includes the far edge, hence one pixel less.
    right, bottom = x + side - 1, y + side - 1
    third = side / 3
    match kind:
        case "circle":
            pen.ellipse((x, y, right, bottom), fill=255)
        case "square":
            pen.rectangle((x, y, right, bottom), fill=255)
        case "triangle":
            pen.polygon([(x, bottom), (right, bottom), ((x + right) / 2, y)], fill=255)
        case "cross":
            pen.rectangle((x + third, y, right - third, bottom), fill=255)
            pen.rectangle((x, y + third, right, bottom - third), fill=255)
