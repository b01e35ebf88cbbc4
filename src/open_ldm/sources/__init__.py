"""The sources of pictures. A new kind of source is one file and one line in the union below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from open_ldm.data.sample import Source
from open_ldm.data.transforms import CenterCrop, TransformConfig
from open_ldm.sources.folder import FolderConfig, FolderSource
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shards import ShardsConfig, ShardsSource
from open_ldm.sources.shrunk import ShrunkConfig, ShrunkSource

SourceConfig = Annotated[
    ShapesConfig | FolderConfig | ShardsConfig | HuggingFaceConfig | ShrunkConfig, Field(discriminator="kind")
]


def channels_of(config: SourceConfig) -> int | None:
    """Return the number of channels of a source's pictures; None where they are RGB."""
    inner = config.of if isinstance(config, ShrunkConfig) else config
    return inner.channels if isinstance(inner, PictureFilesConfig) else None


def exact_files_of(config: SourceConfig) -> PictureFilesConfig | None:
    """Return the settings of a source whose pictures are read with 16 bits; None where 8 are kept."""
    inner = config.of if isinstance(config, ShrunkConfig) else config
    return inner if isinstance(inner, PictureFilesConfig) and inner.bits == 16 else None


def check_entangled_views(config: SourceConfig, transform: TransformConfig) -> None:
    """Raise ValueError where a source entangles a crop or a flip that the transform does not draw."""
    inner = config.of if isinstance(config, ShrunkConfig) else config
    entangle = inner.entangle if isinstance(inner, ShapesConfig) else None
    if entangle is None or entangle.strength == 0:
        return
    if entangle.crop and isinstance(transform.crop, CenterCrop):
        raise ValueError("source.entangle.crop has no effect with crop.kind=center; needed: crop.kind=global or local")
    if entangle.flip and transform.flip in (0, 1):
        raise ValueError(
            f"source.entangle.flip has no effect with transform.flip={transform.flip:g}; needed: transform.flip between 0 and 1"
        )


def open_source(config: SourceConfig, *, captions: bool = True) -> Source:
    """Open the data set that a config describes.

    Args:
        config: The config.
        captions: Whether captions are read. Where they are not, one that cannot be read does not make its picture bad.

    Raises:
        ConfigError: The path is wrong.
        DataError: The content is unusable.
    """
    source = config.open()
    files = source.inner if isinstance(source, ShrunkSource) else source
    if not captions and isinstance(files, FolderSource | ShardsSource):
        files.ignore_captions()
    return source
