"""What is measured of a whole stored picture for the controls that read it. Nothing is measured that no control reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from open_ldm.data.jpeg_quality import read_quality
from open_ldm.data.sample import UNKNOWN, Sample, TransformRecord

Measure = Literal["saturation", "brightness", "jpeg_quality"]
"""Each is also the name of a field of TransformRecord."""

MEASURES: tuple[Measure, ...] = get_args(Measure)
RULES: dict[Measure, int] = {"saturation": 1, "brightness": 1, "jpeg_quality": 1}
"""Number of the rule that each is measured by; another rule makes other caches."""

_LUMA = (299, 587, 114)


def measure(sample: Sample, names: Collection[Measure]) -> dict[Measure, float]:
    """Measure a picture as its source gives it, before any transform.

    With R, G and B from 0 to 255 and means over all pixels, `brightness` = 100 mean(0.299 R + 0.587 G + 0.114 B) / 255, the
    luma of Rec. 601, and `saturation` = 100 mean(max(R, G, B) - min(R, G, B)) / 255. The latter is the chroma S V of the HSV
    model. S alone would be noise in dark pixels. Both are from 0 to 100, and unknown for pictures that are not RGB.
    `jpeg_quality` is that of the file (data/jpeg_quality.py).

    Args:
        sample: The picture.
        names: What to measure.

    Returns:
        A value for each name that float32 represents exactly; `UNKNOWN` where there is none.
    """
    found: dict[Measure, float] = {}
    if "saturation" in names:
        found["saturation"] = _as_float32(_saturation(sample.pixels))
    if "brightness" in names:
        found["brightness"] = _as_float32(_brightness(sample.pixels))
    if "jpeg_quality" in names:
        found["jpeg_quality"] = read_quality(sample.file)
    return found


def with_measures(record: TransformRecord, values: Mapping[Any, Any]) -> TransformRecord:
    """Return the record of a view with what was measured of its picture, by name."""
    return replace(record, **values)


def _saturation(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    if pixels.shape[2] != 3:
        return UNKNOWN
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    largest, smallest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return 100 * int((largest - smallest).sum(dtype=np.int64)) / (int(np.iinfo(pixels.dtype).max) * red.size)


def _brightness(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    if pixels.shape[2] != 3:
        return UNKNOWN
    sums = [int(pixels[:, :, channel].sum(dtype=np.int64)) for channel in range(3)]
    luma = sum(weight * total for weight, total in zip(_LUMA, sums, strict=True))
    return luma / (10 * int(np.iinfo(pixels.dtype).max) * pixels[:, :, 0].size)


def _as_float32(value: float) -> float:
    """Round, so that what a cache stores is what was measured."""
    return float(np.float32(value))
