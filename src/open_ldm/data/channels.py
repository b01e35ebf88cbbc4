"""Decoding files of any number of channels to pixels [H, W, N] of 8 or 16 bits by one stated rule, or saying why not."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from open_ldm.data import formats, pictures, tiff
from open_ldm.data.sample import BadPicture

WRONG_CHANNELS = "another number of channels"
WRONG_NUMBERS = "numbers other than uint8 or uint16"
UNEQUAL_PAGES = "pages of different sizes"

SUFFIXES = (".npy", ".tif", ".tiff")

Range = tuple[int, int]
Values = np.ndarray[Any, np.dtype[np.uint8 | np.uint16]]
Scaled = np.ndarray[Any, Any]
"""uint8, or uint16 where 16 bits are asked for."""

_TYPES: dict[int, type[np.uint8 | np.uint16]] = {8: np.uint8, 16: np.uint16}
_MOST_LETTERS = 200
NPY = b"\x93NUMPY"
_READ_BY_AXES = (pictures.NOT_A_PICTURE, pictures.UNSUPPORTED_MODE, WRONG_CHANNELS)
_GREY_MODES = ("L", "I", "I;16", "I;16L", "I;16B", "I;16N")


def suffixes_of(channels: int) -> tuple[str, ...]:
    """Return the suffixes that files of so many channels can have; one channel may be a greyscale file of any format."""
    return tuple(sorted({*SUFFIXES, *formats.suffixes()})) if channels == 1 else SUFFIXES


def decode(
    picture: bytes | Path, channels: int, ranges: Sequence[Range] | None, max_megapixels: float, bits: int = 8
) -> Scaled:
    """Decode a file (or its bytes) to uint8 [H, W, channels], or to uint16 where `bits` is 16.

    A file is .npy of uint8 or uint16, [H, W, N] or for one channel [H, W]; or TIFF with one greyscale page of 8 or 16 bits
    for each channel, in order, or with any one axis of that length besides height and width (data/tiff.py); or for one channel
    any greyscale picture. Values from `low` to `high` become 0 to 255 (0 to 65535 with 16 `bits`), rounded; values outside are
    clamped. Other numbers than uint8 and uint16 are read from TIFF where `ranges` are given.

    Args:
        picture: The file or its bytes.
        channels: Number of channels that the file must have.
        ranges: (low, high) of every channel, or one pair for all. The default is 0 to 255 for 8 bits and 0 to 65535 for 16,
            which leaves 8 bits as they are and divides 16 bits by 257 (with 16 `bits`: leaves these and multiplies those).
        max_megapixels: Larger pictures are bad.
        bits: 8 or 16, of each number of the result.

    Raises:
        BadPicture: Its `reason` is one of the phrases of this file or of data/pictures.py.
    """
    content = picture if isinstance(picture, bytes) else pictures.read_bytes(picture)
    if not content:
        raise BadPicture(pictures.EMPTY)
    if content.startswith(NPY):
        values = _array_of(content, channels, max_megapixels)
        planes = [_to_bits(values[:, :, channel], ranges, channel, bits) for channel in range(channels)]
    else:
        planes = _planes_of(content, channels, ranges, max_megapixels, bits)
    return np.stack(planes, axis=2)


def read_size(picture: bytes | Path, channels: int, max_megapixels: float) -> tuple[int, int]:
    """Read the (height, width) in pixels that `decode` would give, from the header alone. Raises BadPicture like `decode`."""
    if isinstance(picture, bytes):
        return _size_in(io.BytesIO(picture), channels, max_megapixels)
    return pictures.with_file(picture, lambda file: _size_in(file, channels, max_megapixels))


def npy_shape(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and type of the array of a .npy file from its header. Raises BadPicture."""
    header = _read_header(io.BytesIO(content))
    return header.shape, header.dtype


def _size_in(stream: IO[bytes], channels: int, max_megapixels: float) -> tuple[int, int]:
    start = stream.read(len(NPY))
    stream.seek(0)
    if not start:
        raise BadPicture(pictures.EMPTY)
    if start == NPY:
        return _header(stream, channels, max_megapixels).size
    facts = tiff.read_facts(stream)
    refused = None
    if facts is None or not facts.misread:
        try:
            with pictures.opened(stream, max_megapixels) as image:
                _check_pages(image, channels)
                return pictures.upright_size(image)
        except BadPicture as verdict:
            if facts is None or verdict.reason not in _READ_BY_AXES:
                raise
            refused = verdict
    stream.seek(0)
    with _or_as_before(refused), tiff.opened(stream) as stack:
        _check_axes(stack, channels, max_megapixels)
        return stack.size


@dataclass(frozen=True)
class _Header:
    """What a .npy file says about its array: `shape` as stored, `size` (height, width)."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.shape[0], self.shape[1]


def _read_header(stream: IO[bytes]) -> _Header:
    """Read to the first byte of the array. Nothing is unpickled: only plain numbers are accepted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about headers of old or unusual writers; only their content matters
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return _Header(*read(stream))
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the picture
        # numpy reads the header as a Python literal. A broken one raises whatever its parser fails at (MemoryError for deep
        # nesting, although no accepted header is long), or is quoted in full.
        raise BadPicture(pictures.DAMAGED, f"{type(error).__name__}: {error}"[:_MOST_LETTERS]) from error


def _header(stream: IO[bytes], channels: int, max_megapixels: float) -> _Header:
    """Read and check the header of a .npy file."""
    header = _read_header(stream)
    if header.dtype.kind != "u" or header.dtype.itemsize > 2:
        raise BadPicture(WRONG_NUMBERS, f"{header.dtype}")
    stored_channels = header.shape[2] if len(header.shape) == 3 else 1
    if len(header.shape) not in (2, 3) or stored_channels != channels:
        raise BadPicture(WRONG_CHANNELS, f"an array {list(header.shape)}, needed [height, width, {channels}]")
    if min(header.shape) < 1 or any(type(side) is not int for side in header.shape):  # True is a number to numpy
        raise BadPicture(pictures.DAMAGED, f"an array {list(header.shape)}")
    if header.size[0] * header.size[1] > max_megapixels * 1e6:
        raise BadPicture(pictures.TOO_LARGE, f"{header.size[1]} x {header.size[0]}")
    return header


def _array_of(content: bytes, channels: int, max_megapixels: float) -> Values:
    """Read the numbers [H, W, channels] of a .npy file."""
    stream = io.BytesIO(content)
    header = _header(stream, channels, max_megapixels)
    count = math.prod(header.shape)
    if len(content) - stream.tell() < count * header.dtype.itemsize:
        raise BadPicture(pictures.DAMAGED, "the array is cut off")
    flat = np.frombuffer(content, header.dtype, count, stream.tell())
    return flat.reshape(header.shape, order="F" if header.columns_first else "C").reshape(*header.size, channels)


def _planes_of(content: bytes, channels: int, ranges: Sequence[Range] | None, max_megapixels: float, bits: int) -> list[Scaled]:
    """Read the pages of a TIFF, or, where they are not one for each channel, its axes."""
    facts = tiff.read_facts(io.BytesIO(content))
    refused = None
    if facts is None or not facts.misread:
        try:
            return _pages_of(content, channels, ranges, max_megapixels, bits)
        except BadPicture as verdict:
            if facts is None or verdict.reason not in _READ_BY_AXES:
                raise
            refused = verdict
    with _or_as_before(refused), tiff.opened(io.BytesIO(content)) as stack:
        _check_axes(stack, channels, max_megapixels)
        if ranges is None and (stack.dtype.kind != "u" or stack.dtype.itemsize > 2):
            raise BadPicture(WRONG_NUMBERS, f"{stack.words}; fix: data.source.channel_range, or export it as uint16")
        values = stack.read()
    return [_to_bits(values[:, :, channel], ranges, channel, bits) for channel in range(channels)]


@contextmanager
def _or_as_before(refused: BadPicture | None) -> Iterator[None]:
    """Where tifffile is missing, raise what was wrong without it, if that says more."""
    try:
        yield
    except BadPicture as verdict:
        if verdict.reason == tiff.NEEDS_TIFFFILE and refused is not None and refused.reason != pictures.NOT_A_PICTURE:
            raise BadPicture(refused.reason, f"{refused.detail}; {verdict.reason}: {verdict.detail}") from verdict
        raise


def _check_axes(stack: tiff.Stack, channels: int, max_megapixels: float) -> None:
    height, width = stack.size
    if height * width > max_megapixels * 1e6:
        raise BadPicture(pictures.TOO_LARGE, f"{width} x {height}")
    if stack.channels != channels:
        fix = f"data.source.channels={stack.channels}"
        raise BadPicture(WRONG_CHANNELS, f"{stack.words}, needed {channels} besides Y and X; fix: {fix}")
    if stack.facts.photometric > 2:
        raise BadPicture(tiff.UNSUPPORTED, f"{stack.words}, of photometric interpretation {stack.facts.photometric}")


def _pages_of(content: bytes, channels: int, ranges: Sequence[Range] | None, max_megapixels: float, bits: int) -> list[Scaled]:
    """Read the pages of a TIFF, or the single one of another picture, scaled and upright."""
    planes: list[Scaled] = []
    with pictures.opened(io.BytesIO(content), max_megapixels) as image:
        _check_pages(image, channels)
        size = image.size
        for page in range(channels):
            image.seek(page)
            if image.mode not in _GREY_MODES:
                raise BadPicture(pictures.UNSUPPORTED_MODE, f"page {page + 1} is {image.mode}, needed greyscale")
            if image.size != size:
                raise BadPicture(UNEQUAL_PAGES, f"page {page + 1} has {image.width} x {image.height}")
            values = pictures.white_is_zero(np.asarray(image), image, _photometric(image))
            if image.mode == "I":
                values = pictures.within_16_bits(values)
            plane = _to_bits(values, ranges, page, bits)
            steps = pictures.turn_of(image)
            planes.append(plane if steps is None else np.array(Image.fromarray(plane).transpose(steps)))
    return planes


def _photometric(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return int(tags.get(262, 1))


def _check_pages(image: Image.Image, channels: int) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages != channels:
        raise BadPicture(WRONG_CHANNELS, f"pages {pages}, needed {channels}")
    if image.mode not in _GREY_MODES:
        raise BadPicture(pictures.UNSUPPORTED_MODE, f"{image.mode}, needed greyscale")


def _to_bits(values: np.ndarray[Any, Any], ranges: Sequence[Range] | None, channel: int, bits: int) -> Scaled:
    if ranges is None and values.dtype.kind == "u" and values.dtype.itemsize * 8 == bits:
        same: Scaled = values.astype(_TYPES[bits])
        return same
    whole = (0, 255) if values.dtype.itemsize == 1 else (0, 65535)
    low, high = whole if ranges is None else ranges[channel if len(ranges) > 1 else 0]
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        return _scaled(values, low, high, bits)
    scaled: Scaled = _table(low, high, bits)[values]
    return scaled


def _scaled(values: np.ndarray[Any, Any], low: int, high: int, bits: int) -> Scaled:
    """Compute what `_table` holds, for any numbers. Raises BadPicture when one is not finite."""
    if not np.isfinite(values).all():
        raise BadPicture(WRONG_NUMBERS, "some are not finite")
    above = np.clip(values.astype(np.float64), low, high) - low
    scaled: Scaled = np.floor(above * (2**bits - 1) / (high - low) + 0.5).astype(_TYPES[bits])
    return scaled


@lru_cache(maxsize=64)
def _table(low: int, high: int, bits: int) -> Scaled:
    """Build the table of what every 16-bit value becomes: top (v - low) / (high - low), rounded and clamped."""
    above, top = np.clip(np.arange(65536), low, high) - low, 2**bits - 1
    table: Scaled = ((above * 2 * top + (high - low)) // (2 * (high - low))).astype(_TYPES[bits])
    return table
