"""The settings of every source of picture files: how large they may be, and how their channels are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from open_ldm.core.config import Config
from open_ldm.data import channels, pictures
from open_ldm.data.pictures import Pixels


class PictureFilesConfig(Config):
    """The settings of every source of picture files.

    Attributes:
        path: Where the pictures are.
        max_megapixels: A picture of more millions of pixels is not decoded but counted as bad.
        channels: null reads RGB pictures (data/pictures.py); a number reads .npy files and TIFF pages with exactly so many
            channels (data/channels.py).
        channel_range: [low, high] of the values in these files that become 0 and 255, one pair for each channel or one for
            all, such as [[0, 4095]] for a 12-bit camera; null takes the whole range of 8 or 16 bits.
    """

    kind: str
    path: Path | str
    max_megapixels: float = Field(default=64.0, gt=0, le=pictures.MOST_MEGAPIXELS)
    channels: int | None = Field(default=None, ge=1, le=64)
    channel_range: tuple[tuple[int, int], ...] | None = None

    @model_validator(mode="after")
    def _ranges_fit(self) -> PictureFilesConfig:
        if self.channel_range is None:
            return self
        if self.channels is None:
            raise ValueError("channel_range has no effect on RGB pictures; needed: channels, the number in each file")
        if len(self.channel_range) not in (1, self.channels):
            raise ValueError(
                f"channel_range has {len(self.channel_range)} pairs for {self.channels} channels; needed: one for each, or one"
            )
        if wrong := [list(pair) for pair in self.channel_range if not 0 <= pair[0] < pair[1] <= 65535]:
            raise ValueError(f"channel_range {wrong[0]}; needed: [low, high] with 0 <= low < high <= 65535")
        return self

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of picture names, in lower case."""
        return pictures.SUFFIXES if self.channels is None else channels.suffixes_of(self.channels)

    @property
    def reading(self) -> Any:
        """The settings that decide which pixels a file gives, and whether it gives any."""
        return self.max_megapixels if self.channels is None else (self.max_megapixels, self.channels, self.channel_range)

    def decode(self, picture: bytes | Path) -> Pixels:
        """Decode a picture to uint8 [H, W, 3], or [H, W, `channels`]. Raises BadPicture."""
        if self.channels is None:
            return pictures.decode(picture, self.max_megapixels)
        return channels.decode(picture, self.channels, self.channel_range, self.max_megapixels)

    def read_size(self, picture: bytes | Path) -> tuple[int, int]:
        """Read the (height, width) in pixels from the header alone. Raises BadPicture."""
        if self.channels is None:
            return pictures.read_size(picture, self.max_megapixels)
        return channels.read_size(picture, self.channels, self.max_megapixels)
