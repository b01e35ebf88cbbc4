"""What `ldm data index` writes beside tar shards: a sidecar of each, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from open_ldm.core.errors import DataError
from open_ldm.sources.network import NetworkError, NotThereError
from open_ldm.sources.shard_index import index_shard
from open_ldm.sources.shard_paths import locate_shards
from open_ldm.sources.shard_sidecar import count_captioned, read_sidecar, sidecar_of, sidecars_of, write_sidecar
from open_ldm.sources.shard_table import require_one_folder, write_table
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.sidecar import Stamp
from open_ldm.sources.storage import RemoteFiles


class TarShards:
    """Tar shards, on this machine or behind a network; see `data_index.Indexed`.

    Args:
        config: Names the shards, and says how their members are read.

    Raises:
        ConfigError: There are no such shards.
        DataError: They lie in several folders.
    """

    def __init__(self, config: ShardsConfig) -> None:
        self._config = config
        located = locate_shards(config.path, config.remote)
        self._storage = located.storage
        self.shards: Sequence[Path] = located.shards
        require_one_folder(self.shards)

    def is_indexed(self, number: int, *, digests: bool) -> bool:
        """See `Indexed`."""
        shard, rules = self.shards[number], self._config.rules
        for path in sidecars_of(shard, rules):
            self._storage.obtain(path)
        try:
            sidecar = read_sidecar(shard, rules)
        except (FileNotFoundError, DataError):
            return False
        return not self._storage.changed(shard, sidecar.stamp) and (not digests or "digest" in sidecar)

    def write(self, number: int, *, digests: bool) -> int:
        """See `Indexed`."""
        shard, rules = self.shards[number], self._config.rules
        self._fetch(shard)
        before = Stamp.of(shard.stat())
        index = index_shard(shard, rules, remember=False)
        write_sidecar(shard, index, rules, before, digests=digests)
        self._storage.made_here(sidecar_of(shard, rules))
        return len(index.entries)

    def write_table(self) -> Path:
        """See `Indexed`."""
        shards, rules = self.shards, self._config.rules
        count = partial(count_captioned, rules=rules)
        path = write_table(shards, rules, (read_sidecar(shard, rules) for shard in shards), {}, count)
        self._storage.made_here(path)  # or an older one behind the network would take its place
        sidecars = (read_sidecar(shard, rules) for shard in shards)
        return write_table(shards, rules, sidecars, self._config.open().known_hashes(), count)

    def remove_earlier(self) -> int:
        """See `Indexed`. A tar shard has one sidecar, whatever lies beside it: earlier states of the set leave none."""
        return 0

    def _fetch(self, shard: Path) -> None:
        """Fetch a shard that is behind a network."""
        if isinstance(self._storage, RemoteFiles):
            try:
                self._storage.fetch(shard)
            except NotThereError as error:
                raise DataError(f"{error} is missing", fix="check the address") from None
            except NetworkError as error:
                raise DataError(str(error), fix="check the network, and run the same command again") from None
