"""Cutting a training view of fixed size from a picture, and recording how. Pure functions of (seed, position).

`plan_view` decides everything from sizes alone, and `cut_view` executes the plan. `global` resizes the picture until it just
covers the view, then crops; `local` resizes it to a given scale, then crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.seeds import key
from open_ldm.data.bucket_shapes import BucketsConfig, Shape, bucket_shapes
from open_ldm.data.entangle import RangePart, ViewPreference
from open_ldm.data.pictures import Pixels
from open_ldm.data.sample import TransformRecord


class GlobalCrop(Config):
    """Resize until the view is just covered, then crop at a random position: the view shows nearly the whole picture."""

    kind: Literal["global"] = "global"


class LocalCrop(Config):
    """Resize until the short side is `scale_px`, then crop at a random position: the view shows a part of the picture."""

    kind: Literal["local"] = "local"
    scale_px: PositiveInt


class CenterCrop(Config):
    """Resize until the view is just covered, then crop in the middle: nothing is random."""

    kind: Literal["center"] = "center"


Turning = Literal["none", "half", "quarter"]
_LATER_SETTINGS = ("turn", "buckets")

CropConfig = Annotated[GlobalCrop | LocalCrop | CenterCrop, Field(discriminator="kind")]


class TransformConfig(Config):
    """How views are cut.

    Attributes:
        size_px: Size of the views in pixels, one number for squares, or [height, width].
        crop: How a view is cut from its picture.
        flip: Probability of mirroring a view.
        turn: How a view is turned after that, for pictures that have no up: `half` by 0 or 180 degrees, `quarter` by 0, 90, 180
            or 270, each as often. With `quarter` and a flip of 0.5 all 8 symmetries of the square are equally likely.
        buckets: Views of several aspect ratios at the area of `size_px`, each picture in the one that keeps most of it
            (data/bucket_shapes.py); null cuts all to `size_px`.
    """

    size_px: PositiveInt | tuple[PositiveInt, PositiveInt]
    crop: CropConfig = GlobalCrop()
    flip: float = Field(default=0.0, ge=0, le=1)
    turn: Turning = "none"
    buckets: BucketsConfig | None = None

    @property
    def height_px(self) -> int:
        """Height of every view."""
        return self.size_px if isinstance(self.size_px, int) else self.size_px[0]

    @property
    def width_px(self) -> int:
        """Width of every view."""
        return self.size_px if isinstance(self.size_px, int) else self.size_px[1]

    @property
    def base(self) -> Shape:
        """(height, width) of `size_px`."""
        return self.height_px, self.width_px

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of views in buckets, from the tallest to the widest; none without buckets.

        Raises:
            ValueError: `buckets.step_px` is left open, which a recipe settles.
            ConfigError: The buckets cannot be made.
        """
        if self.buckets is None:
            return ()
        if self.buckets.step_px is None:
            raise ValueError("buckets.step_px is left open")
        return bucket_shapes(self.base, self.buckets.step_px, self.buckets)

    def in_steps(self, step_px: int) -> TransformConfig:
        """Return the config with the step of its buckets, where it leaves that open."""
        if self.buckets is None or self.buckets.step_px is not None:
            return self
        return self.model_copy(update={"buckets": self.buckets.model_copy(update={"step_px": step_px})})

    def of_shape(self, shape: Shape | None) -> TransformConfig:
        """Return the config that cuts views of one shape alone; itself for None."""
        return self if shape is None else self.model_copy(update={"size_px": shape, "buckets": None})

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), _LATER_SETTINGS)

    @model_validator(mode="after")
    def _quarter_turns_are_of_squares(self) -> TransformConfig:
        if self.turn == "quarter" and self.height_px != self.width_px:
            size = f"{self.height_px}x{self.width_px}"
            raise ValueError(f"turn=quarter of views of {size} px; needed: turn=half, or square views")
        return self

    @model_validator(mode="after")
    def _buckets_are_of_whole_pictures(self) -> TransformConfig:
        if self.buckets is None:
            return self
        if isinstance(self.crop, LocalCrop):
            raise ValueError("buckets keep most of a picture, crop.kind=local a part of it; needed: crop.kind=global or center")
        if self.turn == "quarter":
            raise ValueError("turn=quarter of views in buckets, which are not square; needed: turn=half or none")
        step = self.buckets.step_px or 1
        if self.height_px % step or self.width_px % step:
            raise ValueError(f"buckets.step_px={step} does not divide size_px={self.size_px}")
        return self

    @model_validator(mode="after")
    def _local_scale_covers_the_view(self) -> TransformConfig:
        if isinstance(self.crop, LocalCrop) and self.crop.scale_px < max(self.height_px, self.width_px):
            size = f"{self.height_px}x{self.width_px}"
            raise ValueError(f"crop.scale_px={self.crop.scale_px} is smaller than the view of {size} px")
        return self


@dataclass(frozen=True)
class TransformedPicture:
    """One view: `pixels` uint8 [C, H, W], and the record of how it was made."""

    pixels: Tensor
    record: TransformRecord


def transform(
    pixels: Pixels,
    original_size: tuple[int, int],
    config: TransformConfig,
    seed: int,
    position: int,
    preference: ViewPreference | None = None,
) -> TransformedPicture:
    """Make the view of a picture for one position of the sample order.

    Args:
        pixels: The stored picture, uint8 [H, W, C].
        original_size: (height, width) of the picture as first made, for the record; the stored pixels may be smaller.
        config: How the view is cut.
        seed: Together with `position` the key of the random numbers.
        position: Position in the sample order.
        preference: How the source wants the view to be cut, if that depends on what the picture shows.
    """
    height, width = pixels.shape[:2]
    record = plan_view((height, width), original_size, config, seed, position, preference)
    return TransformedPicture(cut_view(pixels, record), record)


def plan_view(
    stored_size: tuple[int, int],
    original_size: tuple[int, int],
    config: TransformConfig,
    seed: int,
    position: int,
    preference: ViewPreference | None = None,
) -> TransformRecord:
    """Decide scale, crop, flip and turn of a view from the sizes of its picture, without its pixels.

    The scale is max(h / H, w / W) for `global` and `center`, so that both scaled sides cover the view, and
    scale_px / min(H, W) for `local`. Crop offsets are uniform over all positions where the view fits, or over the preferred
    part of them. What is not random (`center`, a flip of 0 or 1) follows no preference.

    Args:
        stored_size: (height, width) of the stored picture.
        original_size: As in `transform`.
        config: As in `transform`.
        seed: As in `transform`.
        position: As in `transform`.
        preference: As in `transform`.
    """
    stored_height, stored_width = stored_size
    height, width = config.height_px, config.width_px
    if isinstance(config.crop, LocalCrop):
        scale = config.crop.scale_px / min(stored_size)
    else:
        scale = max(height / stored_height, width / stored_width)
    scaled_height = max(height, round(stored_height * scale))
    scaled_width = max(width, round(stored_width * scale))
    spare_height, spare_width = scaled_height - height, scaled_width - width
    if isinstance(config.crop, CenterCrop):
        top, left = spare_height // 2, spare_width // 2
    else:
        part = preference.crop if preference is not None and _follows(preference, "crop", seed, position) else None
        top = _offset(key(seed, "crop_top", position), spare_height, part)
        left = _offset(key(seed, "crop_left", position), spare_width, part)
    return TransformRecord(
        original_height_px=original_size[0],
        original_width_px=original_size[1],
        scaled_height_px=scaled_height,
        scaled_width_px=scaled_width,
        crop_top_px=top,
        crop_left_px=left,
        height_px=height,
        width_px=width,
        flip=_is_flipped(config.flip, seed, position, preference),
        quarter_turns=_quarter_turns(config.turn, seed, position),
    )


def _follows(preference: ViewPreference, what: str, seed: int, position: int) -> bool:
    return key(seed, f"preferred {what}", position) < int(preference.strength * 2**63)


def _offset(drawn: int, spare: int, part: RangePart | None) -> int:
    first, last = (0, spare) if part is None else part.steps(spare)
    return first + drawn % (last - first + 1)


def _is_flipped(share: float, seed: int, position: int, preference: ViewPreference | None) -> bool:
    preferred = preference.flip if preference is not None and _follows(preference, "flip", seed, position) else None
    if preferred is not None and 0 < share < 1:
        return preferred
    return key(seed, "flip", position) < int(share * 2**63)


def _quarter_turns(turn: Turning, seed: int, position: int) -> int:
    match turn:
        case "none":
            return 0
        case "half":
            return 2 * (key(seed, "turn", position) % 2)
        case "quarter":
            return key(seed, "turn", position) % 4


def cut_view(pixels: Pixels, record: TransformRecord) -> Tensor:
    """Cut the view that a record describes from its stored picture.

    Resampling is antialiased bicubic; a strong reduction is first done by whole-number box averages (to no less than three
    times the target). Only the cropped box is resampled, so that a picture of extreme aspect ratio costs no memory.

    Args:
        pixels: The stored picture, uint8 [H, W, C].
        record: How the view is to be made.

    Returns:
        The view, uint8 [C, height_px, width_px].
    """
    stored_height, stored_width = pixels.shape[:2]
    per_row = stored_height / record.scaled_height_px
    per_column = stored_width / record.scaled_width_px
    box = (
        record.crop_left_px * per_column,
        record.crop_top_px * per_row,
        min(float(stored_width), (record.crop_left_px + record.width_px) * per_column),
        min(float(stored_height), (record.crop_top_px + record.height_px) * per_row),
    )
    rows = resampled(pixels, (record.width_px, record.height_px), box)
    if record.flip:
        rows = rows[:, ::-1]
    if record.quarter_turns:
        rows = np.rot90(rows, -record.quarter_turns)
    return torch.from_numpy(rows.transpose(2, 0, 1).copy())  # [C, H, W]


def resampled(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Resample a picture by Pillow's antialiased bicubic, every channel by itself; 16 bits are computed in float32.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        size: (width, height) of the result.
        box: The part of the picture (left, top, right, bottom); all of it by default.

    Returns:
        The same type, [height, width, C].
    """
    wide = pixels.dtype == np.uint16

    def resize(part: Pixels) -> Pixels:
        image = Image.fromarray(part.astype(np.float32) if wide else part)
        found = np.array(image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
        return np.clip(found + 0.5, 0, 65535).astype(pixels.dtype) if wide else found

    if pixels.shape[2] == 3 and not wide:  # Pillow has RGB, and one call is quicker than three
        return resize(pixels)
    return np.stack([resize(pixels[:, :, channel]) for channel in range(pixels.shape[2])], axis=2)
