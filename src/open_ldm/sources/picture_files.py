"""The settings of every source of picture files: how large they may be, and how their channels are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.data import channels, formats, pictures
from open_ldm.data.pictures import Pixels
from open_ldm.sources.captions import CaptionMode

Role = Literal["file_name", "text", "label", "original_height", "original_width"]

_LATER_SETTINGS = ("bits", "channel_names")
_SHOWN_IN_THE_INDEX = (*_LATER_SETTINGS, "remote", "captions", "columns", "split", "picture", "subset", "revision")


def drop_index_settings(settings: dict[str, Any]) -> None:
    """Remove, from the plain data of any source, settings whose whole effect is in the hashes of its index, or on the way."""
    for name in _SHOWN_IN_THE_INDEX if settings.get("kind") in ("folder", "shards", "huggingface") else ():
        settings.pop(name, None)


class PictureFilesConfig(Config):
    """The settings of every source of picture files.

    Attributes:
        path: Where the pictures are.
        max_megapixels: A picture of more millions of pixels is not decoded but counted as bad.
        channels: null reads RGB pictures (data/pictures.py); a number reads .npy files and TIFF pages with exactly so many
            channels (data/channels.py).
        channel_range: [low, high] of the values in these files that become 0 and 255, one pair for each channel or one for
            all, such as [[0, 4095]] for a 12-bit camera; null takes the whole range of 8 or 16 bits.
        bits: How exactly values are kept: 8 makes 256 steps of the range, 16 makes 65,536, all the way to the autoencoder.
        channel_names: Names of the channels, which sampled TIFF files keep.
        captions: How a caption file of several lines is read: `lines`, each is a caption and one is drawn per view; `whole`,
            the file is one caption.
        columns: Names of metadata columns (in shards: of values in KEY.json) that are called otherwise than text, label,
            original_height, original_width or file_name, such as {text: caption, label: stain}.
    """

    kind: str
    path: Path | str
    max_megapixels: float = Field(default=64.0, gt=0, le=pictures.MOST_MEGAPIXELS)
    channels: int | None = Field(default=None, ge=1, le=64)
    channel_range: tuple[tuple[int, int], ...] | None = None
    bits: Literal[8, 16] = 8
    channel_names: tuple[str, ...] | None = None
    captions: CaptionMode = "lines"
    columns: dict[Role, str] = {}
    later_settings: ClassVar[tuple[str, ...]] = _LATER_SETTINGS

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), self.later_settings)

    @model_validator(mode="after")
    def _of_channels_only(self) -> PictureFilesConfig:
        if self.channels is None and (self.bits != 8 or self.channel_names is not None):
            given = "channel_names" if self.bits == 8 else f"bits={self.bits}"
            raise ValueError(f"{given} has no effect on RGB pictures; needed: channels, the number in each file")
        if self.channel_names is not None and len(self.channel_names) != self.channels:
            raise ValueError(
                f"channel_names has {len(self.channel_names)} names for {self.channels} channels; needed: one each"
            )
        return self

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
        return formats.suffixes() if self.channels is None else channels.suffixes_of(self.channels)

    @property
    def reading(self) -> Any:
        """The settings that decide which pixels a file gives, and whether it gives any."""
        if self.channels is None:
            return self.max_megapixels
        wide = (self.bits,) if self.bits != 8 else ()
        return (self.max_megapixels, self.channels, self.channel_range, *wide)

    def decode(self, picture: bytes | Path) -> Pixels:
        """Decode a picture to uint8 [H, W, 3], or to [H, W, `channels`] of 8 or 16 bits. Raises BadPicture."""
        if self.channels is None:
            return pictures.decode(picture, self.max_megapixels)
        return channels.decode(picture, self.channels, self.channel_range, self.max_megapixels, self.bits)

    def upright(self, known: tuple[int, int], picture: bytes | Path, size: tuple[int, int]) -> tuple[int, int]:
        """Turn the (height, width) that metadata give as the picture is turned when it is read.

        Programs that note sizes, such as img2dataset, often do so before the orientation of a photograph is applied.

        Args:
            known: What the metadata say.
            picture: The picture, whose orientation is read only where the two sizes contradict each other.
            size: Its (height, width) as it is read.
        """
        if (known[0] - known[1]) * (size[0] - size[1]) < 0 and pictures.lies_on_its_side(picture):
            return known[1], known[0]
        return known

    def read_size(self, picture: bytes | Path) -> tuple[int, int]:
        """Read the (height, width) in pixels from the header alone. Raises BadPicture."""
        if self.channels is None:
            return pictures.read_size(picture, self.max_megapixels)
        return channels.read_size(picture, self.channels, self.max_megapixels)
