"""Decoding pictures to RGB pixels by one stated rule, or saying why that fails.

Every reason is one of the fixed phrases below, so that bad samples can be counted by reason.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from open_ldm.data.sample import BadPicture

if TYPE_CHECKING:
    from collections.abc import Iterator

CANNOT_READ = "cannot be read"
MISSING = "missing file"
EMPTY = "empty file"
NOT_A_PICTURE = "not a picture"
TOO_LARGE = "too many pixels"
DAMAGED = "truncated or damaged"
UNSUPPORTED_MODE = "unsupported colour mode"

MOST_MEGAPIXELS = 178.0
"""Highest `max_megapixels` a source accepts: above it Pillow refuses to open a picture at all."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CONVERTED_BY_PILLOW = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
_BACK_OFF_SECONDS = (0.05, 0.2)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
T = TypeVar("T")


def decode(picture: bytes | Path, max_megapixels: float) -> Pixels:
    """Decode a picture (its bytes or its file) to uint8 [H, W, 3], RGB, upright.

    The rule: the first frame of an animation; EXIF orientation applied (an unreadable EXIF block counts as none, and so
    does one behind the pixels of a PNG); palettes converted to RGB; alpha and transparent colours composited on white;
    greyscale repeated; 16-bit greyscale (I;16, or I within 0..65535) divided by 257 and rounded, with transparency ignored;
    16-bit colour cut to its high byte; CMYK and YCbCr converted without a colour profile; LAB and floats refused.
    JPEG, PNG, WebP, TIFF, BMP and GIF are read. The size is read from the header before anything is decoded.

    Raises:
        BadPicture: Its `reason` is one of the phrases of this file.
    """
    content = picture if isinstance(picture, bytes) else read_bytes(picture)
    if not content:
        raise BadPicture(EMPTY)
    with opened(io.BytesIO(content), max_megapixels) as image:
        steps = turn_of(image)
        image.load()
        pixels = _to_rgb(image)
        return pixels if steps is None else np.array(Image.fromarray(pixels).transpose(steps))


def read_size(picture: bytes | Path, max_megapixels: float) -> tuple[int, int]:
    """Read the (height, width) in pixels that `decode` would give, from the header alone. Raises BadPicture like `decode`."""
    if isinstance(picture, bytes):
        return _size_in(io.BytesIO(picture), max_megapixels)
    return with_file(picture, lambda file: _size_in(file, max_megapixels))


def lies_on_its_side(picture: bytes | Path) -> bool:
    """Return whether the stored picture is turned by 90 degrees when it is read. Raises BadPicture."""

    def look(stream: IO[bytes]) -> bool:
        with opened(stream, MOST_MEGAPIXELS) as image:
            if image.format == "TIFF":
                return image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
            return _orientation(image) >= 5

    return look(io.BytesIO(picture)) if isinstance(picture, bytes) else with_file(picture, look)


def with_file(path: Path, look: Callable[[IO[bytes]], T]) -> T:
    """Open a file and return what `look` gives for it. Raises BadPicture when it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            return look(file)
    except FileNotFoundError as error:
        raise BadPicture(MISSING, path.name, of_disk=True) from error
    except OSError as error:
        raise BadPicture(CANNOT_READ, f"{path.name}: {error.strerror}", of_disk=True) from error


def read_bytes(path: Path) -> bytes:
    """Read a file's content. Raises BadPicture when it is missing, unreadable after three tries, or empty."""
    content = with_retries(path.read_bytes, str(path.name))
    if not content:
        raise BadPicture(EMPTY, path.name)
    return content


def with_retries(read: Callable[[], bytes], what: str) -> bytes:
    """Call `read()` up to three times within a quarter of a second, as network disks fail for moments. Raises BadPicture."""
    for pause in (*_BACK_OFF_SECONDS, None):
        try:
            return read()
        except FileNotFoundError as error:
            raise BadPicture(MISSING, what, of_disk=True) from error
        except (PermissionError, IsADirectoryError) as error:
            raise BadPicture(CANNOT_READ, f"{what}: {error.strerror}", of_disk=True) from error
        except OSError as error:
            if pause is None:
                raise BadPicture(CANNOT_READ, f"{what}: {error.strerror or error}", of_disk=True) from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _size_in(stream: IO[bytes], max_megapixels: float) -> tuple[int, int]:
    if not stream.read(1):
        raise BadPicture(EMPTY)
    stream.seek(0)
    with opened(stream, max_megapixels) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) after the orientation is applied."""
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the pixels of an opened picture upright; None when they are already."""
    return _UPRIGHT.get(_orientation(image))


@contextmanager
def opened(stream: IO[bytes], max_megapixels: float) -> Iterator[Image.Image]:
    """Open a picture and read its header. Whatever is wrong with it, there or inside the block, becomes BadPicture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about unusual metadata; only the pixels matter here
        try:
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > max_megapixels * 1e6:
                    raise BadPicture(TOO_LARGE, f"{image.width} x {image.height}")
                yield image
        except (BadPicture, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise BadPicture(NOT_A_PICTURE) from error
        except Image.DecompressionBombError as error:
            raise BadPicture(TOO_LARGE) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the picture
            # Pillow's decoders answer broken input with a dozen exception types, SyntaxError and KeyError among them.
            raise BadPicture(DAMAGED, f"{type(error).__name__}: {error}") from error


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation 1..8; 1 (upright) when there is none or it cannot be read."""
    if image.format == "TIFF":
        return 1  # Pillow's TIFF reader turns the picture itself, and reports the turned size
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole picture to look for a block behind it
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # as above: a broken block raises whatever its parser fails at
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        values = within_16_bits(np.asarray(image))
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, with_alpha).convert("RGB"))
    if image.mode not in _CONVERTED_BY_PILLOW:
        raise BadPicture(UNSUPPORTED_MODE, image.mode)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def within_16_bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Convert a wide greyscale picture to whole numbers. Raises BadPicture when one is below 0 or above 65535."""
    if values.min() < 0 or values.max() > 65535:
        raise BadPicture(UNSUPPORTED_MODE, "I beyond 16 bits")
    return values.astype(np.int64)
