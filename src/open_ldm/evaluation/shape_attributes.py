"""Reads colour, kind, place and size of shapes off a picture: an independent check that a model cannot fool.

It knows nothing of how the pictures are made except the words. Background = median of the frame. Every pixel is taken
for a mixture of background and one reference colour (the one whose direction from the background is nearest); pixels
that are at least half colour form connected regions. A region's colour is that of its purer pixels, nearest in CIELAB;
its kind is the template of equal area and centre, sharp or soft, with the highest overlap (intersection over union of
coverages).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from open_ldm.data.shape_words import COLOURS, KINDS, ShapeWords

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

UNCLEAR = "unclear"
"""Colour or kind of something that resembles none of the words."""

_REFERENCE_RGB: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 30, 40),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 210, 30),
    "purple": (145, 50, 175),
    "black": (15, 15, 15),
}
_FARTHEST_COLOUR = 45.0
"""CIELAB distance beyond which a colour is none of the words."""
_LOWEST_OVERLAP = 0.7
"""Overlap below which a shape is none of the words; of real pictures 99 % lie above it, blurred or cut ones too."""
_SMALLEST_AREA = 0.015
"""Share of the picture below which a region is taken for a speck."""
_SECOND_COLOUR_SHARE = 0.25
"""Share of a region that another colour must have to be a second shape touching the first."""
_LARGE_EXTENT = 0.39
_FILL = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5, "cross": 5 / 9}
"""Share of its bounding box that a shape covers."""
_SUBPIXELS = 4
_SOFTENINGS = 2
"""Passes of the filter (1, 2, 1) / 4 along both axes: two of them are a Gaussian of 1 px."""


@dataclass(frozen=True)
class SeenShape:
    """One shape read off a picture.

    `x`, `y`: centre of its bounding box as a fraction of width and height; `extent`: side of the box as a fraction of
    the short side; `overlap`: intersection over union of coverages with the best template, 0..1.
    """

    colour: str
    kind: str
    size: str
    x: float
    y: float
    extent: float
    overlap: float


@dataclass(frozen=True)
class Agreement:
    """Whether a picture shows what its caption says, for all its shapes. `count`: exactly as many shapes as in the caption."""

    colour: bool
    kind: bool
    place: bool
    size: bool
    count: bool

    @property
    def all(self) -> bool:
        """Colour and kind and place, and no shape too many."""
        return self.colour and self.kind and self.place and self.count


@dataclass(frozen=True)
class AgreementShares:
    """Shares 0..1 of `pictures` pictures that agree with their captions, per attribute; `all` as in `Agreement`."""

    pictures: int
    colour: float
    kind: float
    place: float
    size: float
    count: float
    all: float


def read_shapes(pixels: Tensor) -> list[SeenShape]:
    """Find the shapes that pixels (uint8 [3, H, W], RGB) show, from left to right. Made for sides of 32 px and more."""
    rgb, share, regions = _seen(pixels)
    return sorted((_describe(rgb, region, share) for region in regions), key=lambda shape: shape.x)


def shape_regions(pixels: Tensor) -> list[Mask]:
    """Find where the shapes lie that `read_shapes` reads off pixels (uint8 [3, H, W], RGB): a mask [H, W] of each."""
    return _seen(pixels)[2]


def agreement(pixels: Tensor, shapes: Sequence[ShapeWords], *, mirrored: bool = False) -> Agreement:
    """Compare a picture (uint8 [3, H, W]) with its caption.

    `shapes`: from `shapes_in(caption)`, or a sample's `attributes["shapes"]`. `mirrored`: the picture was flipped after
    it was captioned, so left and right are exchanged. With two shapes, `place` is which of them is farther left.
    A shape that is missing agrees in nothing. Of more shapes than said, the largest are compared, and `count` is false.
    """
    found = read_shapes(pixels)
    count = len(found) == len(shapes)
    seen = sorted(found, key=lambda shape: -shape.extent)[: len(shapes)]
    if len(seen) < len(shapes):
        return Agreement(False, False, False, False, count)
    assignments = [_compare(order, shapes, mirrored, count) for order in itertools.permutations(seen)]
    return max(assignments, key=lambda each: (each.colour, each.kind, each.size, each.place))


def mean_agreement(agreements: Sequence[Agreement]) -> AgreementShares:
    """Average over pictures. Raises ValueError when there are none."""
    if not agreements:
        raise ValueError("no pictures to average over")
    names = [field.name for field in fields(AgreementShares) if field.name != "pictures"]
    shares = {name: sum(getattr(each, name) for each in agreements) / len(agreements) for name in names}
    return AgreementShares(pictures=len(agreements), **shares)


def _compare(seen: Sequence[SeenShape], said: Sequence[ShapeWords], mirrored: bool, count: bool) -> Agreement:
    pairs = list(zip(seen, said, strict=True))
    # One shape lies left or right of the middle of the picture, one of two left or right of the middle between them.
    middle = 0.5 if len(seen) == 1 else sum(shape.x for shape in seen) / len(seen)
    return Agreement(
        colour=all(shape.colour == words.colour for shape, words in pairs),
        kind=all(shape.kind == words.kind for shape, words in pairs),
        place=all((shape.x < middle) == ((words.place == "left") != mirrored) for shape, words in pairs),
        size=all(shape.size == words.size for shape, words in pairs),
        count=count,
    )


def _seen(pixels: Tensor) -> tuple[Floats, Floats, list[Mask]]:
    """Colours [H, W, 3], share of colour of each pixel [H, W], and the regions that are large enough for a shape."""
    rgb = pixels.permute(1, 2, 0).numpy().astype(np.float64)
    frame = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    background = np.median(frame, axis=0)
    share, nearest = _mixtures(rgb, background)
    parts = (part for region in _regions(share >= 0.5) for part in _parts(region, nearest))
    return rgb, share, [part for part in parts if part.mean() >= _SMALLEST_AREA]


def _mixtures(rgb: Floats, background: Floats) -> tuple[Floats, np.ndarray[Any, np.dtype[np.intp]]]:
    """Per pixel: share of colour (0 = background, 1 = reference colour) [H, W], and index of the colour [H, W]."""
    towards = np.array([_REFERENCE_RGB[colour] for colour in COLOURS]) - background  # [6, 3]
    lengths = np.maximum(np.linalg.norm(towards, axis=1), 1.0)
    offset = rgb - background  # [H, W, 3]
    cosine = offset @ (towards / lengths[:, None]).T / np.maximum(np.linalg.norm(offset, axis=2, keepdims=True), 1e-6)
    nearest = cosine.argmax(axis=2)
    share = np.linalg.norm(offset, axis=2) / lengths[nearest]
    return np.clip(share, 0, 1), nearest


def _regions(mask: Mask) -> list[Mask]:
    """Connected regions (8 neighbours) of a mask [H, W], each as a mask."""
    height, width = mask.shape
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        region = np.zeros((height, width), dtype=np.bool_)
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            region[y, x] = True
            for pixel in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
                if pixel in left:
                    left.remove(pixel)
                    stack.append(pixel)
        regions.append(region)
    return regions


def _parts(region: Mask, nearest: np.ndarray[Any, np.dtype[np.intp]]) -> list[Mask]:
    """The region itself, or one part for each colour when two shapes touch."""
    counts = np.bincount(nearest[region], minlength=len(COLOURS))
    strong = [index for index in range(len(COLOURS)) if counts[index] >= _SECOND_COLOUR_SHARE * counts.sum()]
    if len(strong) < 2:
        return [region]
    return [part for index in strong for part in _regions(region & (nearest == index))]


def _describe(rgb: Floats, region: Mask, share: Floats) -> SeenShape:
    height, width = region.shape
    # Edge pixels are less than half colour, yet belong to the shape: one pixel around the region counts too.
    grown = np.zeros_like(region)
    padded = np.pad(region, 1)
    for down, right in itertools.product(range(3), range(3)):
        grown |= padded[down : down + height, right : right + width]
    coverage = np.where(grown, share, 0.0)
    area = coverage.sum()
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    y, x = (coverage.sum(axis=1) @ rows) / area, (coverage.sum(axis=0) @ columns) / area
    overlaps = {kind: _overlap(coverage, _template(kind, area, y, x, height, width)) for kind in KINDS}
    kind = max(overlaps, key=lambda name: overlaps[name])
    side = np.sqrt(area / _FILL[kind])
    extent = float(side / min(height, width))
    return SeenShape(
        colour=_colour_of(rgb, region, share),
        kind=kind if overlaps[kind] >= _LOWEST_OVERLAP else UNCLEAR,
        size="large" if extent >= _LARGE_EXTENT else "small",
        x=float(x / width),
        y=float((y - side / 6) / height if kind == "triangle" else y / height),
        extent=extent,
        overlap=float(overlaps[kind]),
    )


def _template(kind: str, area: float, y: float, x: float, height: int, width: int) -> Floats:
    """Coverage [H, W] of a shape of this kind with given area (in pixels) and centre of mass (y, x)."""
    side = np.sqrt(area / _FILL[kind])
    steps = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS
    # Coordinates in the bounding box, -0.5..0.5. A triangle's centre of mass lies a sixth of its height too low.
    v = ((np.arange(height)[:, None] + steps).ravel() - (y - side / 6 if kind == "triangle" else y)) / side
    u = ((np.arange(width)[:, None] + steps).ravel() - x) / side
    v, u = np.abs(v)[:, None] if kind != "triangle" else v[:, None], np.abs(u)[None, :]
    match kind:
        case "circle":
            inside = u**2 + v**2 <= 0.25
        case "square":
            inside = (u <= 0.5) & (v <= 0.5)
        case "triangle":
            inside = (np.abs(v) <= 0.5) & (u <= (v + 0.5) / 2)
        case _:
            inside = ((u <= 1 / 6) & (v <= 0.5)) | ((v <= 1 / 6) & (u <= 0.5))
    coverage: Floats = inside.reshape(height, _SUBPIXELS, width, _SUBPIXELS).mean(axis=(1, 3))
    return coverage


def _overlap(coverage: Floats, template: Floats) -> float:
    """Intersection over union of coverages, with the template as it is or softened as a coarse picture would be."""
    soft = template
    for _ in range(_SOFTENINGS):
        padded = np.pad(soft, 1)
        soft = (padded[:-2, 1:-1] + 2 * soft + padded[2:, 1:-1]) / 4
        padded = np.pad(soft, 1)
        soft = (padded[1:-1, :-2] + 2 * soft + padded[1:-1, 2:]) / 4
    return max(float(np.minimum(coverage, each).sum() / np.maximum(coverage, each).sum()) for each in (template, soft))


def _colour_of(rgb: Floats, region: Mask, share: Floats) -> str:
    """Nearest word for the median of the purer half of a region's pixels."""
    values, purity = rgb[region], share[region]
    colour = np.median(values[purity >= np.median(purity)], axis=0)
    distances = [np.linalg.norm(_cielab(colour) - _cielab(np.array(_REFERENCE_RGB[name]))) for name in COLOURS]
    best = int(np.argmin(distances))
    return COLOURS[best] if distances[best] <= _FARTHEST_COLOUR else UNCLEAR


def _cielab(rgb: Floats) -> Floats:
    """sRGB 0..255 [3] -> CIE 1976 L*a*b* [3] for the D65 white point (IEC 61966-2-1, ISO/CIE 11664-4)."""
    scaled = rgb / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
