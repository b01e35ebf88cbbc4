"""The shapes of buckets: views of several aspect ratios at one area. Each picture is cut to the shape that keeps most of it.

With sides in steps of m px, an area of A px holds U = A / m^2 squares of side m. The shapes of constant area are those of r
rows and floor(U / r) columns of such squares, and the same turned: no other shape within the area is as high and wider.
None is larger than the square, so that none needs more memory.

A picture of aspect ratio a (width / height) that just covers a view of ratio b keeps the share min(a / b, b / a) of its pixels.
So it belongs to the shape whose ratio is nearest to its own on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError

Shape = tuple[int, int]
"""(height, width) of a view in pixels."""

LONGEST = 3.0
_LISTED = 7
"""As many shapes at most are written out."""
_APART = 1.1
"""Neighbouring ratios of the default set differ by at least this factor: a picture between two of them loses 5 % or so."""


class BucketsConfig(Config):
    """Views of several aspect ratios at the area of `size_px`.

    Attributes:
        ratios: Aspect ratios, width / height, each served by the nearest shape of constant area; null takes a set that is
            derived from the area and the steps.
        longest: The longest side of the derived shapes, as a multiple of the shortest.
        step_px: Sides are multiples of it; null takes what the autoencoder and the denoiser need.
    """

    ratios: tuple[PositiveFloat, ...] | None = Field(default=None, min_length=2)
    longest: float = Field(default=LONGEST, gt=1, le=16)
    step_px: PositiveInt | None = None

    @model_validator(mode="after")
    def _ratios_say_it_all(self) -> BucketsConfig:
        if self.ratios is not None and self.longest != LONGEST:
            raise ValueError("buckets.longest has no effect on ratios that are given; needed: one of the two")
        return self


def shapes_of_area(base: Shape, step_px: int) -> list[Shape]:
    """Return the shapes of constant area, from the tallest to the widest.

    Args:
        base: (height, width) that the area is that of; multiples of `step_px`.
        step_px: Sides are multiples of it.
    """
    units = base[0] * base[1] // step_px**2
    pairs = [(rows, units // rows) for rows in range(1, units + 1)]
    whole = [(rows, columns) for rows, columns in pairs if units // columns == rows]
    return [(rows * step_px, columns * step_px) for rows, columns in reversed(whole)]


def bucket_shapes(base: Shape, step_px: int, config: BucketsConfig) -> tuple[Shape, ...]:
    """Return the shapes of the views, from the tallest to the widest.

    The derived set goes out from `base` to both sides in factors of at least 1.1 as far as `longest`.

    Args:
        base: (height, width) that the area is that of.
        step_px: Sides are multiples of it.
        config: Which ratios are wanted.

    Raises:
        ConfigError: A given ratio has no shape within a tenth, two have the same one, or there is no shape but `base`.
    """
    possible = shapes_of_area(base, step_px)
    if config.ratios is None:
        chosen = _derived(base, possible, config.longest)
    else:
        chosen = [possible[nearest_ratio(ratio, possible)] for ratio in config.ratios]
        for number, shape in enumerate(chosen):
            ratio = config.ratios[number]
            if _kept(1, ratio, shape) < 1 / _APART:
                raise ConfigError(
                    f"buckets.ratios {ratio:g}: the nearest shape is {words_of(shape)} px, in steps of {step_px} px",
                    needed="ratios within a tenth of a shape",
                    fix=f"{_ratio(shape):.3g} instead, or a larger data.transform.size_px",
                )
            if shape in chosen[:number]:
                one, other = (f"{config.ratios[index]:g}" for index in (chosen.index(shape), number))
                raise ConfigError(
                    f"buckets.ratios {one} and {other} both give {words_of(shape)} px: sides are in steps of {step_px} px",
                    needed="ratios that differ by more",
                )
    if len(chosen) < 2:
        raise ConfigError(
            f"buckets give {words_of(base)} px alone: sides are in steps of {step_px} px",
            needed="several shapes",
            fix="a larger data.transform.size_px or buckets.longest, or leave data.transform.buckets out",
        )
    return tuple(sorted(chosen, key=_ratio))


def _derived(base: Shape, possible: Sequence[Shape], longest: float) -> list[Shape]:
    chosen = [base]
    ordered = sorted(possible, key=_ratio)
    middle = ordered.index(base)
    for outwards in (ordered[middle + 1 :], ordered[:middle][::-1]):
        last = base
        for shape in outwards:
            if kept_share(last, shape) <= 1 / _APART and max(shape) <= longest * min(shape):
                chosen.append(shape)
                last = shape
    return chosen


def _ratio(shape: Shape) -> float:
    return shape[1] / shape[0]


def words_of(shape: Shape) -> str:
    """Write a shape as HEIGHTxWIDTH."""
    return f"{shape[0]}x{shape[1]}"


def listed(shapes: Sequence[Shape]) -> str:
    """Write the shapes from the tallest to the widest, some of many."""
    ordered = sorted(shapes, key=_ratio)
    if len(ordered) <= _LISTED:
        return ", ".join(map(words_of, ordered))
    chosen = [ordered[place * (len(ordered) - 1) // (_LISTED - 1)] for place in range(_LISTED)]
    return f"{', '.join(map(words_of, chosen))} and {len(ordered) - _LISTED} between"


def require_trained(shape: Shape, shapes: Sequence[Shape]) -> Shape:
    """Return the shape. Raises ConfigError where it is none of those that a model was trained on."""
    if shape not in shapes:
        raise ConfigError(f"this model was not trained on pictures of {words_of(shape)} px", needed=f"one of {listed(shapes)}")
    return shape


def nearest_shape(size: Shape, shapes: Sequence[Shape]) -> int:
    """Return the number of the shape that keeps most of a picture of (height, width) `size`; the first one of equals."""
    return max(range(len(shapes)), key=lambda number: kept_share(size, shapes[number]))


def nearest_ratio(ratio: float, shapes: Sequence[Shape]) -> int:
    """Return the number of the shape whose width / height is nearest to a ratio on a logarithmic scale."""
    return max(range(len(shapes)), key=lambda number: _kept(1, ratio, shapes[number]))


def kept_share(size: Shape, shape: Shape) -> float:
    """Return the share of a picture's pixels that a view of this shape shows when the picture just covers it."""
    return _kept(*size, shape)


def _kept(height: float, width: float, shape: Shape) -> float:
    """min(a / b, b / a) for the ratios a and b of a picture and a shape: one division, which rounds alike on every machine."""
    one, other = width * shape[0], height * shape[1]
    return min(one, other) / max(one, other)
