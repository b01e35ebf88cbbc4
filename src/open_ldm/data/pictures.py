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

from open_ldm.core.extras import MissingExtraError
from open_ldm.data import tiff
from open_ldm.data.formats import formats_for
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
NEEDS_HEIF = "HEIC that needs the extra [data]"

MOST_MEGAPIXELS = 178.0
"""Highest `max_megapixels` a source accepts: above it Pillow refuses to open a picture at all."""

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
    16-bit colour cut to its high byte; CMYK and YCbCr converted without a colour profile; LAB, floats and stacks of 16-bit
    pages refused. data/formats.py names the
    formats; data/tiff.py reads TIFF that Pillow does not read rightly. The
    size is read from the header before anything is decoded.

    Raises:
        BadPicture: Its `reason` is one of the phrases of this file.
    """
    content = picture if isinstance(picture, bytes) else read_bytes(picture)
    if not content:
        raise BadPicture(EMPTY)
    stream = io.BytesIO(content)
    facts = tiff.read_facts(stream)
    _refuse_numbers(facts)
    if facts is not None and facts.misread:
        return _rgb_by_axes(stream, max_megapixels)
    try:
        with opened(stream, max_megapixels) as image:
            _refuse_stack(image, facts)
            steps = turn_of(image)
            image.load()
            pixels = _to_rgb(image, facts)
            return pixels if steps is None else np.array(Image.fromarray(pixels).transpose(steps))
    except BadPicture as verdict:
        if facts is None or verdict.reason not in (NOT_A_PICTURE, DAMAGED if facts.webp else ""):
            raise
        return _rgb_by_axes(io.BytesIO(content), max_megapixels)


def read_size(picture: bytes | Path, max_megapixels: float) -> tuple[int, int]:
    """Read the (height, width) in pixels that `decode` would give, from the header alone. Raises BadPicture like `decode`."""
    if isinstance(picture, bytes):
        return _size_in(io.BytesIO(picture), max_megapixels)
    return with_file(picture, lambda file: _size_in(file, max_megapixels))


def lies_on_its_side(picture: bytes | Path) -> bool:
    """Return whether the stored picture is turned by 90 degrees when it is read. Raises BadPicture."""

    def look(stream: IO[bytes]) -> bool:
        """Whether the orientation that the file states swaps height and width."""
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
    facts = tiff.read_facts(stream)
    _refuse_numbers(facts)
    if facts is not None and facts.misread:
        return _size_by_axes(stream, max_megapixels)
    try:
        with opened(stream, max_megapixels) as image:
            _refuse_stack(image, facts)
            return upright_size(image)
    except BadPicture as verdict:
        if facts is None or verdict.reason != NOT_A_PICTURE:
            raise
        return _size_by_axes(stream, max_megapixels)


def _refuse_numbers(facts: tiff.Facts | None) -> None:
    if facts is not None and facts.unranged:
        fix = "data.source.channels with channel_range, or export it as uint8 or uint16"
        raise BadPicture(UNSUPPORTED_MODE, f"{facts.words}, whose range nothing says; fix: {fix}")


def _refuse_stack(image: Image.Image, facts: tiff.Facts | None) -> None:
    pages = getattr(image, "n_frames", 1) if facts is not None and facts.bits > 8 else 1
    if pages > 1 and facts is not None:
        fix = f"data.source.channels={pages}, or export one page a file"
        raise BadPicture(tiff.UNSUPPORTED, f"{pages} pages of {facts.words}, needed one; fix: {fix}")


def _size_by_axes(stream: IO[bytes], max_megapixels: float) -> tuple[int, int]:
    stream.seek(0)
    with tiff.opened(stream) as stack:
        _check_rgb(stack, max_megapixels)
        return stack.size


def _rgb_by_axes(stream: IO[bytes], max_megapixels: float) -> Pixels:
    """Read a TIFF of grey or RGB, with opacity or without, as `decode` says."""
    with tiff.opened(stream) as stack:
        _check_rgb(stack, max_megapixels)
        values, words = stack.read(), stack.words
    opacity = values.shape[2] in (2, 4)
    if values.dtype.itemsize > 1:
        wide = within_16_bits(values, words)
        values = wide >> 8 if wide.shape[2] > 2 else (wide + 128) // 257
    pixels = values.astype(np.uint8)
    if pixels.shape[2] <= 2:
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    return _on_white(Image.fromarray(pixels)) if opacity else np.ascontiguousarray(pixels)


def _check_rgb(stack: tiff.Stack, max_megapixels: float) -> None:
    height, width = stack.size
    if height * width > max_megapixels * 1e6:
        raise BadPicture(TOO_LARGE, f"{width} x {height}")
    channels = stack.channels
    grey = channels == 1 or (channels == 2 and stack.alpha)
    colour = stack.colour and stack.dtype.itemsize <= 2 and (channels == 3 or (channels == 4 and stack.alpha))
    signed = stack.dtype.kind == "i" and channels > 1
    if not (grey or colour) or signed or stack.facts.photometric > 2:
        fix = f"data.source.channels={channels}, or export it as RGB"
        raise BadPicture(tiff.UNSUPPORTED, f"{stack.words}; needed: grey, or RGB of 8 or 16 bits; fix: {fix}")


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
            with Image.open(stream, formats=formats_for(_start_of(stream))) as image:
                if image.width * image.height > max_megapixels * 1e6:
                    raise BadPicture(TOO_LARGE, f"{image.width} x {image.height}")
                yield image
        except (BadPicture, MemoryError):
            raise
        except MissingExtraError as error:
            raise BadPicture(NEEDS_HEIF, f"fix: {error.fix}") from error
        except UnidentifiedImageError as error:
            raise BadPicture(NOT_A_PICTURE) from error
        except Image.DecompressionBombError as error:
            raise BadPicture(TOO_LARGE) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the picture
            # Pillow's decoders answer broken input with a dozen exception types, SyntaxError and KeyError among them.
            raise BadPicture(DAMAGED, f"{type(error).__name__}: {error}") from error


def _start_of(stream: IO[bytes]) -> bytes:
    start = stream.read(12)
    stream.seek(0)
    return start


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


def white_is_zero(values: np.ndarray[Any, Any], image: Image.Image, photometric: int) -> np.ndarray[Any, Any]:
    """Return wide greyscale values with 0 as black. Pillow turns those of 8 bits itself, and no others. Raises BadPicture."""
    if photometric or not image.mode.startswith("I"):
        return values
    if not image.mode.startswith("I;16"):
        raise BadPicture(UNSUPPORTED_MODE, f"{image.mode} with white as 0; needed: 8 or 16 bits")
    return 65535 - values


def _to_rgb(image: Image.Image, facts: tiff.Facts | None) -> Pixels:
    if image.mode.startswith("I"):
        values = within_16_bits(white_is_zero(np.asarray(image), image, 1 if facts is None else facts.photometric))
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    if image.mode not in _CONVERTED_BY_PILLOW:
        raise BadPicture(UNSUPPORTED_MODE, image.mode)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _on_white(image: Image.Image) -> Pixels:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def within_16_bits(values: np.ndarray[Any, Any], what: str = "I") -> np.ndarray[Any, np.dtype[np.int64]]:
    """Convert a wide greyscale picture to whole numbers. Raises BadPicture when one is below 0 or above 65535."""
    if values.min() < 0 or values.max() > 65535:
        raise BadPicture(UNSUPPORTED_MODE, f"{what} beyond 16 bits")
    return values.astype(np.int64)
