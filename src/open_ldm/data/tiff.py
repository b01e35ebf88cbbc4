"""TIFF files beyond plain 8- and 16-bit grey and RGB: read through tifffile by their axes, or refused by a line with them.

Pillow reads a part of TIFF, and some files of that part wrongly and without an error (docs/data.md lists them with
versions). The first directory of a file is therefore read here, and decides whether Pillow is asked at all.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from open_ldm.core.extras import MissingExtraError, need
from open_ldm.data.sample import BadPicture

UNSUPPORTED = "TIFF that is not read"
NEEDS_TIFFFILE = "TIFF that needs the extra [data]"

Array = np.ndarray[Any, Any]

_WIDTHS = {1: 1, 3: 2, 4: 4, 16: 8}  # BYTE, SHORT, LONG, LONG8: the types of the numbers read here
_TAGS = {
    258: "bits",
    259: "compression",
    262: "photometric",
    274: "orientation",
    277: "samples",
    284: "planar",
    317: "predictor",
    339: "format",
}
_ORDERS = {b"II": "<", b"MM": ">"}
_BYTE, _ASCII, _UTF8 = 1, 2, 129
_MOST_ENTRIES = 4096
_MOST_LETTERS = 160
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_KINDS = {_UNSIGNED: "uint", _SIGNED: "int", _FLOAT: "float"}
_WHITE_IS_ZERO, _ALPHA, _WEBP, _PACKBITS = 0, (1, 2), 50001, 32773


@dataclass(frozen=True)
class Facts:
    """The first directory of a TIFF: the numbers of its tags, with the defaults of the standard."""

    big_endian: bool = False
    bits: int = 1
    compression: int = 1
    photometric: int = 1
    orientation: int = 1
    samples: int = 1
    planar: int = 1
    predictor: int = 1
    format: int = _UNSIGNED

    @property
    def words(self) -> str:
        """Type and number of samples: '4 samples of uint16'."""
        several = f"{self.samples} samples of " if self.samples > 1 else ""
        planes = " in separate planes" if self.samples > 1 and self.planar == 2 else ""
        return f"{several}{_KINDS.get(self.format, 'unknown')}{self.bits}{planes}"

    @property
    def plausible(self) -> bool:
        """Whether the numbers are those of a file that some program wrote."""
        return self.bits in (1, 2, 4, 8, 10, 12, 14, 16, 24, 32, 64) and 1 <= self.samples <= 4096 and self.planar in (1, 2)

    @property
    def unranged(self) -> bool:
        """Whether nothing says which number is black and which is white."""
        return self.format == _FLOAT or (self.format == _SIGNED and self.bits == 8)

    @property
    def webp(self) -> bool:
        """Whether the pixels are WebP, which not every build of Pillow decodes."""
        return self.compression == _WEBP

    @property
    def misread(self) -> bool:
        """Whether Pillow would give other numbers than the file holds, or floats."""
        wide_planes = self.bits > 8 and self.samples > 1 and self.planar == 2 and self.compression == 1
        swapped = self.big_endian and self.compression != 1 and (self.format == _SIGNED or self.bits == 32)
        predicted = self.compression == _PACKBITS and self.predictor > 1  # libtiff overlooks the predictor there
        return wide_planes or swapped or predicted or self.unranged


def read_facts(stream: IO[bytes]) -> Facts | None:
    """Read the first directory, leaving the stream at its start; None for what is no TIFF, breaks off or makes no sense."""
    stream.seek(0)
    start = stream.read(2)
    stream.seek(0)
    if start not in _ORDERS:  # of most pictures, whose reading this must not slow down
        return None
    values: dict[str, int] = {}
    try:
        order, entries = _directory(stream)
        for tag, kind, number, stored in entries:
            if tag in _TAGS and kind in _WIDTHS and number:
                first = _content(stream, order, _WIDTHS[kind], number, stored)[: _WIDTHS[kind]]
                values[_TAGS[tag]] = int.from_bytes(first, "big" if order == ">" else "little")
    except (struct.error, ValueError):
        return None
    finally:
        stream.seek(0)
    if not 1 <= values.get("orientation", 1) <= 8:
        del values["orientation"]
    facts = Facts(big_endian=order == ">", **values)
    return facts if facts.plausible else None


def read_text(stream: IO[bytes], wanted: int, most: int) -> bytes:
    """Read at most `most` bytes of a text in the first directory; b'' where there is none. Raises as broken files do."""
    try:
        order, entries = _directory(stream)
        for tag, kind, number, stored in entries:
            if tag == wanted and kind in (_BYTE, _ASCII, _UTF8):
                return _content(stream, order, min(number, most), 1, stored)
    finally:
        stream.seek(0)
    return b""


def _directory(stream: IO[bytes]) -> tuple[str, list[tuple[int, int, int, bytes]]]:
    """Read byte order and entries (tag, type, count, stored value or its place). Raises ValueError or struct.error."""
    stream.seek(0)
    head = stream.read(16)
    order = _ORDERS.get(head[:2])
    if order is None or len(head) < 8 or (version := struct.unpack(order + "H", head[2:4])[0]) not in (42, 43):
        raise ValueError("no TIFF")
    big = version == 43
    offset = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
    counts, entry, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    stream.seek(offset)
    (count,) = struct.unpack(order + counts, stream.read(8 if big else 2))
    if count > _MOST_ENTRIES:
        raise ValueError("no directory")
    size = struct.calcsize(order + entry)
    content = stream.read(count * (size + room))
    starts = range(0, len(content) - size - room + 1, size + room)
    return order, [
        (*struct.unpack(order + entry, content[at : at + size]), content[at + size : at + size + room]) for at in starts
    ]


def _content(stream: IO[bytes], order: str, width: int, number: int, stored: bytes) -> bytes:
    """Return the first `width` bytes of a value, which is in the directory or where that says."""
    if width * number > len(stored):
        stream.seek(struct.unpack(order + ("Q" if len(stored) == 8 else "I"), stored)[0])
        stored = stream.read(width)
    return stored[:width]


@dataclass(frozen=True)
class Stack:
    """A TIFF opened by tifffile, before its pixels are read.

    Attributes:
        axes: One letter for each side longer than 1, such as ZCYX; S are the samples of a pixel.
        shape: The sides.
        dtype: Type of the numbers.
        facts: The first directory.
        alpha: The last sample of a pixel is its opacity.
        colour: Samples are red, green and blue.
        series: What tifffile reads.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    facts: Facts
    alpha: bool
    colour: bool
    series: Any

    @property
    def words(self) -> str:
        """What was found: 'axes ZCYX of 5x3x20x24, uint16'."""
        return f"axes {self.axes} of {'x'.join(map(str, self.shape))}, {self.dtype}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, upright. Raises BadPicture where there is no Y or X axis."""
        if not {"Y", "X"} <= set(self.axes):
            raise BadPicture(UNSUPPORTED, f"{self.words}; needed: a picture with height and width; export one")
        height, width = self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]
        return (width, height) if self.facts.orientation >= 5 else (height, width)

    @property
    def channels(self) -> int:
        """Number of channels. Raises BadPicture for a stack of several axes besides height and width."""
        rest = [side for letter, side in zip(self.axes, self.shape, strict=True) if letter not in "YX"]
        if len(rest) > 1:
            needed = "needed: one axis besides Y and X; export one plane, or a projection, a file"
            raise BadPicture(UNSUPPORTED, f"{self.words}; {needed}")
        return rest[0] if rest else 1

    def read(self) -> Array:
        """Read the numbers as [H, W, channels], upright. Raises BadPicture."""
        channels = self.channels
        with _tifffile_errors(self.facts):
            values = np.asarray(self.series.asarray()).reshape(self.shape)
        order = [self.axes.index("Y"), self.axes.index("X")]
        values = values.transpose(*order, *(at for at in range(values.ndim) if at not in order))
        values = values.reshape(*values.shape[:2], channels)
        if self.facts.photometric == _WHITE_IS_ZERO and self.dtype.kind == "u":
            values = np.iinfo(self.dtype).max - values
        return _upright(values, self.facts.orientation)


@contextmanager
def opened(stream: IO[bytes]) -> Iterator[Stack]:
    """Open a TIFF with tifffile and read its directories. Raises BadPicture, also where tifffile is not installed."""
    facts = read_facts(stream) or Facts()
    try:
        tifffile = need("tifffile", extra="data")
    except MissingExtraError as error:
        raise BadPicture(NEEDS_TIFFFILE, f"{facts.words}; fix: {error.fix}") from error
    with _quiet(), _tifffile_errors(facts), tifffile.TiffFile(stream) as file:
        yield _stack(file, facts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what tifffile logs about damage, which is raised as well."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _stack(file: Any, facts: Facts) -> Stack:
    if len(file.series) != 1:
        shapes = ", ".join("x".join(map(str, one.shape)) for one in file.series[:4])
        raise BadPicture(UNSUPPORTED, f"{len(file.series)} separate images ({shapes}); needed: one; export one a file")
    series = file.series[0]
    sides = [(letter, side) for letter, side in zip(series.axes, series.shape, strict=True) if side > 1 or letter in "YX"]
    page = series.keyframe
    extra = tuple(int(one) for one in page.extrasamples)
    return Stack(
        axes="".join(letter for letter, _ in sides),
        shape=tuple(side for _, side in sides),
        dtype=np.dtype(series.dtype),
        facts=facts,
        alpha=bool(extra) and extra[-1] in _ALPHA,
        colour=int(page.photometric) == 2,
        series=series,
    )


@contextmanager
def _tifffile_errors(facts: Facts) -> Iterator[None]:
    try:
        yield
    except (BadPicture, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the picture
        why = " ".join(str(error).split())[:_MOST_LETTERS]
        fix = "; fix: pip install imagecodecs" if "imagecodecs" in str(error) or isinstance(error, ImportError) else ""
        raise BadPicture(UNSUPPORTED, f"{facts.words}, compression {facts.compression}: {why}{fix}") from error


def _upright(values: Array, orientation: int) -> Array:
    """Turn [H, W, ...] as the standard's orientations 1 to 8 say."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values[::-1] if orientation in (3, 4, 7, 8) else values
