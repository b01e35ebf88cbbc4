"""Opening the samples of shards: by their table, where there is one, else by the index of each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from open_ldm.sources.mapped_samples import MappedSamples
from open_ldm.sources.shard_index import ShardRules, index_shard
from open_ldm.sources.shard_samples import ListedSamples
from open_ldm.sources.shard_table import read_table


def open_samples(
    shards: Sequence[Path], rules: ShardRules
) -> tuple[ListedSamples | MappedSamples, Mapping[str, Sequence[str]]]:
    """Open the samples of shards, and the hashes that their table knows.

    Args:
        shards: All of them.
        rules: How their members are read.

    Raises:
        DataError: A shard, or the table, is damaged.
    """
    table = read_table(shards, rules)
    if table is None:
        return ListedSamples([index_shard(shard, rules) for shard in shards]), {}
    return MappedSamples(shards, rules, table), table.hashes
