"""Content change: how often what a picture shows changes when only one control changes. Unwanted; lower is better."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError, nearest
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.readers.base import PLACE, Reader, Reading, mirrored

FLIP, SIZE = "flip", "size"
TOUCHED: Mapping[str, tuple[str, ...]] = {
    FLIP: (PLACE,),
    "turn": (PLACE,),
    "crop": (PLACE, "size", "count"),
    "colour": ("colour",),
}
"""Attributes that a control is there to change; those of a control that is not named here stay as they are."""


@dataclass(frozen=True)
class ContentChange:
    """What changed in n pictures between the values of a control.

    Attributes:
        changed: Whether any of the attributes differs between any two values, bool [n].
        attributes: Share of the pictures in which each one differs.
        pairs: 'a|b' -> share of the pictures in which any of the attributes differs between the values a and b.
    """

    changed: Tensor
    attributes: Mapping[str, float]
    pairs: Mapping[str, float]


def compared_attributes(control: str, reader: Reader, chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Return what to compare: `chosen`, or all that the control must leave alone. Raises ConfigError for unknown attributes."""
    for name in chosen or ():
        if name not in reader.attributes:
            raise ConfigError(
                f"content_change: the reader knows no attribute {name!r}", needed=nearest(name, reader.attributes)
            )
    found = tuple(chosen) if chosen else tuple(name for name in reader.attributes if name not in TOUCHED.get(control, ()))
    if not found:
        raise ConfigError(
            f"content_change: {control} is there to change all that the reader reads",
            needed="attributes or another reader",
        )
    return found


def content_change(control: str, readings: Mapping[str, Sequence[Reading]], attributes: Sequence[str]) -> ContentChange:
    """Compare what the same pictures show under each value of a control.

    A picture counts as changed where, of its readings r_v under the values v, any two differ in any of the attributes. Under
    `flip=1` a picture is expected to be the mirror image, so that left and right are exchanged before it is compared.

    Args:
        control: Its option, such as 'size'.
        readings: value -> the readings of the n pictures, in the same order.
        attributes: What is compared.

    Raises:
        DataError: There are no pictures, or fewer than two values.
    """
    aligned = {value: [_aligned(control, value, one) for one in found] for value, found in readings.items()}
    count = len(next(iter(aligned.values()), ()))
    if count == 0 or len(aligned) < 2:
        raise DataError(f"content_change: {count} pictures under {len(aligned)} values", needed="one picture and two values")

    def differ(values: Sequence[str], names: Sequence[str]) -> Tensor:
        """Tell of each picture whether some of these facts are not the same under all values, bool [pictures]."""
        seen = [{tuple(aligned[value][row][name] for name in names) for value in values} for row in range(count)]
        return torch.tensor([len(each) > 1 for each in seen])

    values = list(aligned)
    return ContentChange(
        differ(values, attributes),
        {name: float(differ(values, [name]).double().mean()) for name in attributes},
        {f"{a}|{b}": float(differ([a, b], attributes).double().mean()) for a, b in itertools.combinations(values, 2)},
    )


def read_changes(
    pixels: Tensor, reader: Reader, control: str, values: Sequence[str], attributes: Sequence[str]
) -> ContentChange | None:
    """Measure the floor: what the reader reads differently in real pictures that show the same.

    Under a size every picture is shrunk to what an original of that size could show, and enlarged again; under `flip=1` it is
    mirrored.

    Args:
        pixels: Real pictures uint8 [n, C, H, W].
        reader: The reader whose errors are to be known.
        control: Its option.
        values: As given to `content_change`.
        attributes: What is compared.

    Returns:
        What changed; None for a control that no real picture can be brought under.
    """
    real = changed_as_real(control, pixels, values)
    if real is None:
        return None
    return content_change(control, {value: reader.read(each) for value, each in real.items()}, attributes)


def has_floor(control: str) -> bool:
    """Tell whether real pictures can be brought under a control, by its option, without changing what they show."""
    return control in _CHANGES


def changed_as_real(control: str, pixels: Tensor, values: Sequence[str]) -> dict[str, Tensor] | None:
    """Bring real pictures uint8 [n, C, H, W] under each value of a control without changing what they show.

    Under a size they are shrunk to what such an original could show and enlarged again, under `flip=1` mirrored.

    Returns:
        value -> pictures of the same shape; None for a control that no real picture can be brought under.
    """
    change = _CHANGES.get(control)
    return None if change is None else {value: change(pixels, value) for value in values}


def shown_size_px(size_px: tuple[int, int], view_px: tuple[int, int]) -> tuple[int, int]:
    """Return how many pixels (height, width) of an original of `size_px` a view of `view_px` shows, at most its own."""
    scale = max(view / own for view, own in zip(view_px, size_px, strict=True))
    height, width = (max(1, min(view, round(view / scale))) for view in view_px)
    return height, width


def _aligned(control: str, value: str, reading: Reading) -> Reading:
    return mirrored(reading) if control == FLIP and value == "1" else reading


def _coarse(pixels: Tensor, value: str) -> Tensor:
    height, width = (max(1, round(float(side))) for side in value.lower().split("x"))
    view = (pixels.shape[-2], pixels.shape[-1])
    return to_pixels(coarsened(to_images(pixels), shown_size_px((height, width), view)))


def _flipped(pixels: Tensor, value: str) -> Tensor:
    return pixels.flip(-1) if value == "1" else pixels


_CHANGES: Mapping[str, Callable[[Tensor, str], Tensor]] = {SIZE: _coarse, FLIP: _flipped}
"""What brings a real picture under a value of a control without changing what it shows."""
