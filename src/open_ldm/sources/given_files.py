"""Which kind of source reads what lies at a path, where no recipe says it."""

from __future__ import annotations

from pathlib import Path

from open_ldm.core.errors import OpenLdmError
from open_ldm.data.formats import suffixes
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.hub_columns import NoPictureColumnError
from open_ldm.sources.hub_table import is_table
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shards import ShardsConfig


def config_of(path: Path, channels: int | None = None) -> FolderConfig | ShardsConfig | HuggingFaceConfig:
    """Choose between a table of `datasets`, tar shards (a folder, a file or a pattern) and a folder of pictures."""
    if is_table(path) and not _beside_pictures(path):
        return HuggingFaceConfig(path=str(path), channels=channels)
    if path.suffix.lower() == ".tar" or (path.is_dir() and any(path.glob("*.tar"))):
        return ShardsConfig(path=str(path), channels=channels)
    return FolderConfig(path=path, channels=channels)


def _beside_pictures(path: Path) -> bool:
    """Whether tables hold no pictures and lie in a folder of some, as embeddings and notes do."""
    known = suffixes()
    if not path.is_dir() or not any(file.suffix.lower() in known for file in path.rglob("*")):
        return False
    try:
        HuggingFaceConfig(path=str(path)).open()
    except NoPictureColumnError:
        return True
    except OpenLdmError:
        return False
    return False
