"""Which kind of source reads what lies at a path, where no recipe says it."""

from __future__ import annotations

from pathlib import Path

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError, OpenLdmError
from open_ldm.data.formats import suffixes
from open_ldm.data.sample import printable
from open_ldm.sources.files import find_files
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.hub_columns import NoPictureColumnError
from open_ldm.sources.hub_table import is_table
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shard_paths import find_shards
from open_ldm.sources.shard_words import NoPictureInShardsError
from open_ldm.sources.shards import ShardsConfig


def config_of(path: Path, channels: int | None = None) -> FolderConfig | ShardsConfig | HuggingFaceConfig:
    """Choose between a table of `datasets`, tar shards (a folder, a file or a pattern) and a folder of pictures.

    Tables and shards without pictures in a folder of some, as embeddings and notes are, do not count. A table of pictures names
    those beside it (`HuggingFaceSource.summary`).

    Raises:
        DataError: A folder holds pictures both in shards and in single files.
    """
    packed = _packed(path, channels)
    if packed is None or (path.is_dir() and _are_beside(packed, path)):
        return FolderConfig(path=path, channels=channels)
    return packed


def _packed(path: Path, channels: int | None) -> ShardsConfig | HuggingFaceConfig | None:
    if is_table(path):
        return HuggingFaceConfig(path=str(path), channels=channels)
    if path.suffix.lower() == ".tar" or (path.is_dir() and any(path.glob("*.tar"))):
        return ShardsConfig(path=str(path), channels=channels)
    return None


def _are_beside(packed: ShardsConfig | HuggingFaceConfig, folder: Path) -> bool:
    """Whether tables or shards hold no pictures, and their folder does. Raises DataError where shards and folder do."""
    single = find_files(folder, suffixes(), skip_unreadable=True).pictures
    if not single:
        return False
    try:
        packed.open()
    except (NoPictureColumnError, NoPictureInShardsError):
        return True
    except OpenLdmError:  # which says more when they are opened for their pictures
        return False
    if isinstance(packed, HuggingFaceConfig):
        return False
    shards = find_shards(packed.path)
    first = f"{'' if len(shards) == 1 else 'such as '}{shards[0].name}"
    raise DataError(
        f"{printable(str(folder))} holds pictures in {counted(len(shards), 'tar file')}, {printable(first)}, and"
        f" {len(single):,} in single files, such as {printable(single[0])}",
        needed="one of the two",
        fix="move the others elsewhere, or name a recipe with data.source={kind: folder, path: ...}, or kind: shards",
    )
