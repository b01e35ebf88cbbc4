"""What microscopes write beside the pixels, OME-XML in a TIFF's first directory: pixel size and channel names, both ways."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, TiffImagePlugin

from open_ldm.data import tiff

PIXEL_SIZE = "ome.pixel_size_um"
CHANNELS = "ome.channels"

_DESCRIPTION = 270
_MOST_BYTES = 1 << 22
_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6}
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True)
class Ome:
    """What OME-XML says of the first image.

    Attributes:
        pixel_size_um: Side of a pixel in micrometres, along x; None where it is not known.
        channels: Names of the channels in their order; '' for one without.
    """

    pixel_size_um: float | None = None
    channels: tuple[str, ...] = ()

    def columns(self) -> dict[str, Any]:
        """Return what is known as columns of a sample."""
        known: dict[str, Any] = {} if self.pixel_size_um is None else {PIXEL_SIZE: self.pixel_size_um}
        return known | ({CHANNELS: ", ".join(self.channels)} if any(self.channels) else {})


def read_ome(file: IO[bytes] | bytes) -> Ome:
    """Read the OME-XML of a TIFF; nothing of a file without, or of one that cannot be understood."""
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        text = tiff.read_text(stream, _DESCRIPTION, _MOST_BYTES)
    except (struct.error, ValueError):
        return Ome()
    if b"<OME" not in text[:4096] or b"<!ENTITY" in text:
        return Ome()
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError):
        return Ome()
    pixels = next((item for item in root.iter() if _name(item) == "Pixels"), None)
    if pixels is None:
        return Ome()
    names = tuple(item.get("Name") or "" for item in pixels if _name(item) == "Channel")
    return Ome(_micrometres(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")), names)


def attributes_in(file: bytes) -> dict[str, Any]:
    """Return what a picture's file says of itself as columns: of an OME-TIFF its pixel size and channel names."""
    return read_ome(file).columns() if file[:2] in (b"II", b"MM") else {}


def _name(item: ElementTree.Element) -> str:
    return item.tag.rpartition("}")[2]


def _micrometres(size: str | None, unit: str | None) -> float | None:
    """Convert a physical size; the standard's unit is the micrometre where none is given."""
    try:
        value = float(size or "") * _UM["µm" if unit is None else unit]
    except (ValueError, KeyError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def tiff_bytes(values: np.ndarray[Any, np.dtype[np.uint16]], channel_names: Sequence[str] = ()) -> bytes:
    """Encode uint16 [C, H, W] as an OME-TIFF of one grey page a channel, which data/channels.py and microscopy programs read.

    Args:
        values: The numbers, stored as they are.
        channel_names: One for each channel, or none.
    """
    count, height, width = values.shape
    names = list(channel_names) or [""] * count
    channels = "".join(
        f'<Channel ID="Channel:0:{number}" SamplesPerPixel="1"{f" Name={quoteattr(name)}" if name else ""}/>'
        for number, name in enumerate(names)
    )
    places = "".join(
        f'<TiffData IFD="{number}" FirstC="{number}" FirstZ="0" FirstT="0" PlaneCount="1"/>' for number in range(count)
    )
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_SCHEMA}"><Image ID="Image:0"><Pixels ID="Pixels:0"'
        f' DimensionOrder="XYCZT" Type="uint16" SizeX="{width}" SizeY="{height}" SizeC="{count}" SizeZ="1" SizeT="1">'
        f"{channels}{places}</Pixels></Image></OME>"
    )
    described = TiffImagePlugin.ImageFileDirectory_v2()
    described[_DESCRIPTION] = text.encode("ascii", "xmlcharrefreplace").decode()
    pages = [Image.fromarray(np.ascontiguousarray(plane)) for plane in values]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], tiffinfo=described)
    return stream.getvalue()


def in_file_units(
    pixels: np.ndarray[Any, np.dtype[np.uint16]], ranges: Sequence[tuple[int, int]] | None
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Convert pixels [C, H, W] of 0 to 65535 back to numbers of the files: low + p (high - low) / 65535, rounded.

    Args:
        pixels: The pixels.
        ranges: (low, high) of every channel, one pair for all, or None for 0 to 65535.
    """
    if ranges is None:
        return pixels
    pairs = np.array([ranges[channel if len(ranges) > 1 else 0] for channel in range(len(pixels))], np.int64)
    low, span = pairs[:, 0, None, None], (pairs[:, 1] - pairs[:, 0])[:, None, None]
    given: np.ndarray[Any, np.dtype[np.uint16]] = (low + (pixels.astype(np.int64) * span * 2 + 65535) // (2 * 65535)).astype(
        np.uint16
    )
    return given
