"""The quality that a JPEG was saved with, read from the quantisation table in its header."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np

from open_ldm.data import pictures
from open_ldm.data.sample import UNKNOWN, BadPicture

LOSSLESS = 100.0

_NPY = b"\x93NUMPY"
_LOSSLESS_FORMATS = ("PNG", "BMP", "GIF")
_LOSSY_IN_TIFF = ("jpeg", "tiff_jpeg", "webp")
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1 of the JPEG standard (ITU-T T.81), row by row: the quantisation of luminance at quality 50."""


def read_quality(file: bytes | None) -> float:
    """Read the quality of a picture's file, 1 to 100.

    libjpeg's quality q scales table K.1 by s = 5000 / q per cent below 50 and by s = 200 - 2 q from there, rounds, and keeps
    the result between 1 and 255. The quality of a JPEG is the q whose table is nearest to the file's own table of luminance,
    in the mean of |log(ratio)| over its 64 numbers. It is exact for files written by libjpeg and Pillow, and an estimate for
    programs with tables of their own. Header and tables are read, no pixels.

    Args:
        file: The bytes of the file; None for a picture that comes from none.

    Returns:
        The quality; 100 where nothing was lost: PNG, BMP, GIF, .npy, lossless WebP, TIFF without lossy compression, pictures
        that come from no file. UNKNOWN where no such table tells what was lost: other WebP, JPEG in TIFF.
    """
    if file is None or file.startswith(_NPY):
        return LOSSLESS
    try:
        with pictures.opened(io.BytesIO(file), pictures.MOST_MEGAPIXELS) as image:
            tables: dict[int, Any] | None = getattr(image, "quantization", None)
            if tables:
                return _nearest(tuple(tables[min(tables)]))
            if image.format == "TIFF":
                return UNKNOWN if image.info.get("compression") in _LOSSY_IN_TIFF else LOSSLESS
            lossless = image.format in _LOSSLESS_FORMATS or (image.format == "WEBP" and _is_lossless_webp(file))
            return LOSSLESS if lossless else UNKNOWN
    except BadPicture:
        return UNKNOWN


@lru_cache(maxsize=256)
def _nearest(table: tuple[int, ...]) -> float:
    distances = np.abs(_log_tables() - np.log(np.maximum(table, 1))).mean(axis=1)
    return float(1 + int(distances.argmin()))


@lru_cache(maxsize=1)
def _log_tables() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Compute the logarithms [100, 64] of the tables of qualities 1 to 100."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: np.ndarray[Any, np.dtype[np.float64]] = np.log(np.clip((np.array(_LUMINANCE) * scale + 50) // 100, 1, 255))
    return tables


def _is_lossless_webp(file: bytes) -> bool:
    """Find the first chunk of pixels; an animation has none at this level and counts as lossy."""
    at = 12
    while at + 8 <= len(file):
        name, size = file[at : at + 4], int.from_bytes(file[at + 4 : at + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        at += 8 + size + size % 2
    return False
