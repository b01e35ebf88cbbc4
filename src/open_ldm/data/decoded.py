"""What only decoding shows of a data set: formats, channels, bit depths, value ranges, and which pictures are broken."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from open_ldm.data import channels, pictures, tiff
from open_ldm.data.sample import BadPicture, BadSample, Sample, Source

_LEAST_OF_16_BITS = 64
"""A file of 16 bits whose values stay below 64 of 255 leaves two bits and more unused, as 12-bit cameras do."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_SAMPLES = {"1": 1, "L": 1, "I": 1, "F": 1, "LA": 2, "La": 2, "RGBA": 4, "RGBa": 4, "CMYK": 4}


@dataclass(frozen=True)
class FileKind:
    """What a file says: its format, channels (opacity among them), bits of each number, and whether the numbers are colours."""

    format: str
    channels: int
    bits: int
    colours: bool = True

    @property
    def own_channels(self) -> bool:
        """Whether reading it as RGB of 8 bits would lose something that reading its channels keeps."""
        grey = self.channels == 1 or self.colours
        return not grey or (self.bits > 8 and (self.format in ("NPY", "TIFF") or self.channels == 1))

    def __str__(self) -> str:
        return f"{self.format}, {self.channels} channel{'s' if self.channels > 1 else ''} of {self.bits} bits"


@dataclass(frozen=True)
class Decoded:
    """What decoding every picture showed.

    Attributes:
        kinds: Number of pictures by kind of file; pictures that come from no file are not counted.
        ranges: For each channel the smallest and the largest value of all pictures, as they are read.
        top: The largest value that is possible, 255 or 65535.
        dim_wide: Number of files of 16 bits, and the highest of 255 that any of them reaches where they are read as RGB.
        bad: The pictures that cannot be used.
    """

    kinds: Mapping[str, int]
    ranges: tuple[tuple[int, int], ...]
    top: int
    dim_wide: tuple[int, int] = (0, 255)
    bad: tuple[BadSample, ...] = field(default=(), repr=False)

    def problems(self) -> list[str]:
        """Return a warning where files of 16 bits use a few of them, as those of 12-bit cameras do."""
        count, reach = self.dim_wide
        if not count or reach >= _LEAST_OF_16_BITS:
            return []
        return [
            f"{_files(count)} of 16 bits reach{'es' if count == 1 else ''} {reach} of 255 as RGB,"
            " as those of a 12-bit camera do; set data.source.channels with channel_range=[[0, 4095]]"
        ]

    def text(self) -> list[str]:
        """Write lines for people: kinds of files, and the range of every channel."""
        lines = [f"{_files(count)}: {kind}" for kind, count in sorted(self.kinds.items(), key=lambda item: -item[1])]
        if self.ranges:
            lines.append(f"values from {', '.join(f'{low} to {high}' for low, high in self.ranges)} of {self.top}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"kinds": dict(self.kinds), "ranges": [list(pair) for pair in self.ranges], "top": self.top}


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def decode_all(source: Source) -> Decoded:
    """Decode every picture of a source."""
    kinds: Counter[str] = Counter()
    bad: list[BadSample] = []
    low: np.ndarray[Any, Any] | None = None
    high: np.ndarray[Any, Any] | None = None
    top, wide, reach = 255, 0, 0
    for index in range(len(source)):
        try:
            sample = source[index]
        except BadPicture as verdict:
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
            continue
        flat = sample.pixels.reshape(-1, sample.pixels.shape[2])
        low = flat.min(axis=0) if low is None else np.minimum(low, flat.min(axis=0))
        high = flat.max(axis=0) if high is None else np.maximum(high, flat.max(axis=0))
        top = int(np.iinfo(sample.pixels.dtype).max)
        if (kind := kind_of_file(sample)) is not None:
            kinds[str(kind)] += 1
            if kind.bits > 8 and source.summary.channels is None:
                wide, reach = wide + 1, max(reach, int(flat.max()))
    ranges = () if low is None or high is None else tuple(zip(low.tolist(), high.tolist(), strict=True))
    return Decoded(kinds, ranges, top, (wide, reach), tuple(bad))


def kind_of_file(sample: Sample) -> FileKind | None:
    """Return what a sample's file says; None where it comes from none."""
    if sample.file is None:
        return None
    try:
        return kind_of(sample.file)
    except BadPicture:
        return None


def kind_of(content: bytes) -> FileKind:
    """Read format, channels and bits of a picture's file from its headers. Raises BadPicture."""
    if content.startswith(channels.NPY):
        shape, dtype = channels.npy_shape(content)
        return FileKind("NPY", shape[2] if len(shape) == 3 else 1, dtype.itemsize * 8, colours=False)
    facts = tiff.read_facts(io.BytesIO(content))
    if facts is not None:
        return FileKind("TIFF", _tiff_channels(content, facts), facts.bits, colours=facts.photometric >= 2)
    with pictures.opened(io.BytesIO(content), pictures.MOST_MEGAPIXELS) as image:
        name, mode = str(image.format), image.mode
    if content.startswith(_PNG):
        return FileKind(name, _PNG_SAMPLES.get(content[25], 3), max(8, content[24]))
    return FileKind(name, 1 if mode.startswith("I;") else _SAMPLES.get(mode, 3), 16 if mode.startswith("I") else 8)


def _tiff_channels(content: bytes, facts: tiff.Facts) -> int:
    """Count by axes where tifffile is installed, else samples, or pages of one sample."""
    if facts.photometric >= 2:
        return facts.samples if facts.photometric == 2 else 3
    with suppress(BadPicture), tiff.opened(io.BytesIO(content)) as stack:  # Pillow reads some that tifffile refuses
        return stack.channels
    if facts.samples > 1:
        return facts.samples
    with pictures.opened(io.BytesIO(content), pictures.MOST_MEGAPIXELS) as image:
        return int(getattr(image, "n_frames", 1))
