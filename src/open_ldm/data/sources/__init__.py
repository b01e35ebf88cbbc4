"""The sources of pictures. A new kind of source is one file and one line in the union below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from open_ldm.data.sample import Source
from open_ldm.data.sources.folder import FolderConfig, FolderSource
from open_ldm.data.sources.picture_files import PictureFilesConfig
from open_ldm.data.sources.shapes import ShapesConfig
from open_ldm.data.sources.shards import ShardsConfig, ShardsSource
from open_ldm.data.sources.shrunk import ShrunkConfig, ShrunkSource

SourceConfig = Annotated[ShapesConfig | FolderConfig | ShardsConfig | ShrunkConfig, Field(discriminator="kind")]


def channels_of(config: SourceConfig) -> int | None:
    """Return the number of channels of a source's pictures; None where they are RGB."""
    inner = config.of if isinstance(config, ShrunkConfig) else config
    return inner.channels if isinstance(inner, PictureFilesConfig) else None


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
