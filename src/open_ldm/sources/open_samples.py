"""Opening the samples of shards: by their table, where there is one, else by the index of each shard on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_ldm.core.errors import DataError
from open_ldm.core.overrides import assignments
from open_ldm.sources.mapped_samples import MappedSamples
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shard_index import ShardRules, index_shard
from open_ldm.sources.shard_samples import ListedSamples
from open_ldm.sources.shard_table import read_table, table_of
from open_ldm.sources.storage import RemoteFiles, Storage, read_obtained


def open_samples(
    shards: Sequence[Path], rules: ShardRules, storage: Storage, config: PictureFilesConfig
) -> tuple[ListedSamples | MappedSamples, Mapping[str, Sequence[str]]]:
    """Open the samples of shards, and the hashes that their table knows.

    Args:
        shards: All of them.
        rules: How their members are read.
        storage: Where they are.
        config: The settings that name them, for the command that writes their table.

    Raises:
        DataError: A shard, or the table, is damaged; or shards behind a network have no table.
    """
    table = read_obtained(storage, [table_of(shards, rules)], lambda: read_table(shards, rules), again=True)
    if table is None:
        if isinstance(storage, RemoteFiles):
            raise DataError(
                f"{storage.network.address(table_of(shards, rules).name)} is missing: the table of these shards",
                needed="the *.index.safetensors files of ldm data index beside them",
                fix=f"{_index_command(config)}, which fetches each shard once",
            )
        return ListedSamples(index_shard(shard, rules) for shard in shards), {}
    return MappedSamples(shards, rules, table, storage), table.hashes


def _index_command(config: PictureFilesConfig) -> str:
    """The command that writes exactly the table which these settings read: its name depends on the pattern and the rules."""
    settings = config.model_dump(mode="json", exclude_defaults=True)
    settings.pop("kind", None)
    return shlex.join(["ldm", "data", "index", str(settings.pop("path")), *assignments(settings)])
