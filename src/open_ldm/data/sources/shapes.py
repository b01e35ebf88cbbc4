"""Coloured shapes painted on the fly: a data set inside the package with known ground truth for every attribute.

Each picture shows one or two shapes on a light background, at its own original size: the short side is log-uniform in
20..160 px and the aspect ratio 3:4 to 4:3, so that size, crop, aspect and flip controls vary. Everything about picture i
follows from (seed, i).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.core.seeds import key
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary
from open_ldm.data.shape_words import CLASS_NAMES, COLOURS, HELD_OUT, KINDS, PLACES, SIZES, ShapeWords, write_caption

_RGB = {
    "red": (215, 35, 45),
    "green": (30, 165, 60),
    "blue": (40, 80, 220),
    "yellow": (242, 208, 30),
    "purple": (145, 55, 175),
    "black": (20, 20, 20),
}
_SHORT_SIDE_PX = (20.0, 160.0)
_EXTENT = {"small": (0.3, 0.34), "large": (0.44, 0.5)}
"""Side of a shape's bounding box, as a fraction of the picture's short side."""
_SUPERSAMPLING = 4
_DRAWING = 3
"""Number of the rule that paints the pictures; part of the fingerprint."""

T = TypeVar("T")


class ShapesConfig(Config):
    """The settings of the shapes.

    Attributes:
        length: Number of pictures.
        seed: Another seed gives other pictures.
        two_shapes: Share of pictures that show two shapes.
        split: `train` never shows the held-out combinations of colour and kind, `held_out` shows nothing else.
    """

    kind: Literal["shapes"] = "shapes"
    length: int = Field(default=100_000, ge=1)
    seed: int = Field(default=0, ge=0)
    two_shapes: float = Field(default=0.5, ge=0, le=1)
    split: Literal["train", "held_out", "all"] = "train"

    def open(self) -> ShapesSource:
        """Return the source that this config describes."""
        return ShapesSource(self)


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


class ShapesSource:
    """Random-access data set of shapes. `attributes["shapes"]` of a sample is its tuple of `DrawnShape`."""

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config
        held_out = [pair for pair in itertools.product(COLOURS, KINDS) if pair in HELD_OUT]
        seen = [pair for pair in itertools.product(COLOURS, KINDS) if pair not in HELD_OUT]
        self._pairs = {"train": seen, "held_out": held_out, "all": held_out + seen}[config.split]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Colour and kind of the first shape: 'red circle', ..."""
        return CLASS_NAMES

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""
        shapes = "one or two shapes" if self.config.two_shapes else "one shape"
        layout = f"{shapes} drawn on the fly, split {self.config.split}"
        return SourceSummary(len(self), len(CLASS_NAMES), len(self), layout)

    @property
    def fingerprint(self) -> str:
        """Hash of the config and of the number of the painting rule."""
        return hashlib.blake2b(f"{_DRAWING}/{self.config.model_dump_json()}".encode(), digest_size=16).hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes that all three change with the config, since everything follows from it."""
        return IndexHashes(self.fingerprint, self.fingerprint, self.fingerprint)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute hashes from the config and the index alone; no picture is painted."""
        whole = self.fingerprint
        on_pictures(len(indices))
        return [hashlib.blake2b(f"{whole}/{index}".encode(), digest_size=16).digest() for index in indices]

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        return Sample(
            id=self.sample_id(index),
            pixels=draw(scene),
            original_height_px=scene.height_px,
            original_width_px=scene.width_px,
            label=CLASS_NAMES.index(scene.shapes[0].class_name),
            captions=(write_caption(scene.shapes),),
            attributes=self.attributes(scene),
        )

    def sample_id(self, index: int) -> str:
        """Return 'shapes/INDEX'."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return f"shapes/{index:06d}"

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the (height, width) in pixels, without painting the picture."""
        scene = self.scene(index)
        return scene.height_px, scene.width_px

    def label_of(self, index: int) -> int:
        """Return the class of a picture, without painting it."""
        return CLASS_NAMES.index(self.scene(index).shapes[0].class_name)

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the caption of a picture, without painting it."""
        return (write_caption(self.scene(index).shapes),)

    def captions(self) -> list[str]:
        """Return every caption that this split can have, once each (not one per sample, since the sentences repeat)."""
        nouns = [(colour, kind, size) for colour, kind in self._pairs for size in SIZES]
        captions = [write_caption([ShapeWords(*noun, place)]) for noun in nouns for place in PLACES]
        if self.config.two_shapes:
            for first, second in itertools.product(nouns, nouns):
                if first[0] != second[0]:
                    captions += [write_caption([ShapeWords(*first, place), ShapeWords(*second, "")]) for place in PLACES]
        return captions

    def scene(self, index: int) -> Scene:
        """Decide what picture `index` shows, without painting it."""
        draws = _Draws(self.config.seed, index)
        height, width = _picture_size(draws)
        count = 1 + (draws.between("count", 0, 1) < self.config.two_shapes)
        place = draws.one_of("place", PLACES)
        first = self._shape(draws, "first", count, place, (height, width), avoid="")
        shapes = [first]
        if count == 2:
            other_place = PLACES[1 - PLACES.index(place)]
            shapes.append(self._shape(draws, "second", count, other_place, (height, width), avoid=first.colour))
        return Scene(height, width, round(draws.between("background", 222, 252)), tuple(shapes))

    def _shape(self, draws: _Draws, which: str, count: int, place: str, size: tuple[int, int], avoid: str) -> DrawnShape:
        height, width = size
        colour, kind = draws.one_of(f"{which} pair", [pair for pair in self._pairs if pair[0] != avoid])
        word = draws.one_of(f"{which} size", SIZES)
        extent = draws.between(f"{which} extent", *_EXTENT[word])
        # Two shapes stay in their halves, and one shape stays inside the picture, for every aspect ratio.
        half_x, half_y = extent * min(size) / width / 2, extent * min(size) / height / 2
        x = draws.between(f"{which} x", half_x, 0.5 - half_x) if count == 2 else draws.between(f"{which} x", 0.25, 0.33)
        y = draws.between(f"{which} y", max(half_y, 0.35), min(1 - half_y, 0.65))
        return DrawnShape(colour, kind, word, place, x if place == "left" else 1 - x, y, extent)

    @staticmethod
    def attributes(scene: Scene) -> Mapping[str, Any]:
        """Return the ground truth of a sample."""
        return {"shapes": scene.shapes}


class _Draws:
    """Independent random numbers for one picture, each with its own purpose."""

    def __init__(self, seed: int, index: int) -> None:
        self._seed = seed
        self._index = index

    def between(self, purpose: str, low: float, high: float) -> float:
        return low + (high - low) * (key(self._seed, f"shapes {purpose}", self._index) / 2**63)

    def one_of(self, purpose: str, options: list[T] | tuple[T, ...]) -> T:
        return options[key(self._seed, f"shapes {purpose}", self._index) % len(options)]


def _picture_size(draws: _Draws) -> tuple[int, int]:
    """Draw (height, width): two in five pictures are square, the rest log-uniform between 3:4 and 4:3."""
    low, high = _SHORT_SIDE_PX
    short = round(low * (high / low) ** draws.between("short side", 0, 1))
    if draws.between("square", 0, 1) < 0.4:
        return short, short
    long = round(short * (4 / 3) ** draws.between("aspect ratio", 0, 1))
    return (short, long) if draws.one_of("orientation", ("wide", "tall")) == "wide" else (long, short)


def draw(scene: Scene) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Paint a scene with antialiased edges as uint8 [H, W, 3]. Only each shape's own box is supersampled."""
    canvas = Image.new("RGB", (scene.width_px, scene.height_px), (scene.background,) * 3)
    for shape in scene.shapes:
        side = shape.extent * min(scene.height_px, scene.width_px)
        left, top = shape.x * scene.width_px - side / 2, shape.y * scene.height_px - side / 2
        corner = (int(left // 1), int(top // 1))
        box_px = int(side) + 2
        mask = Image.new("L", (box_px * _SUPERSAMPLING, box_px * _SUPERSAMPLING), 0)
        inside = [(left - corner[0]) * _SUPERSAMPLING, (top - corner[1]) * _SUPERSAMPLING]
        _fill(ImageDraw.Draw(mask), shape.kind, inside[0], inside[1], side * _SUPERSAMPLING)
        canvas.paste(_RGB[shape.colour], corner, mask.reduce(_SUPERSAMPLING))
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
