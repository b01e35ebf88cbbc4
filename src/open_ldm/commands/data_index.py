"""`ldm data index`: write the sidecar of each tar shard, and the table of all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import Progress, duration
from open_ldm.core.files import remove_temporary_files
from open_ldm.core.shown import ShownAsText
from open_ldm.core.tasks import Task
from open_ldm.runs.autoencoder.recipe import load_any_recipe
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.catalogue import is_packaged
from open_ldm.runs.recipe import build_config
from open_ldm.sources.network import NetworkError, NotThereError
from open_ldm.sources.shard_index import index_shard
from open_ldm.sources.shard_paths import LocatedShards, locate_shards
from open_ldm.sources.shard_sidecar import Stamp, read_sidecar, sidecar_of, sidecars_of, write_sidecar
from open_ldm.sources.shard_table import write_table
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.shrunk import ShrunkConfig
from open_ldm.sources.storage import RemoteFiles, Storage


@dataclass(frozen=True)
class IndexResult(ShownAsText):
    """What `ldm data index` did. `table` is None while `missing` shards, of other tasks, lack their sidecar."""

    table: Path | None
    shards: int
    written: int
    samples: int
    missing: int
    seconds: float

    def text(self) -> str:
        """'100 of 1,000 shards indexed, 10,000 samples in 1 s; the table is data/shards-0a.index.safetensors'."""
        rate = f", {self.samples / self.seconds:,.0f} samples/s" if self.samples else ""
        done = f"{self.written:,} of {self.shards:,} shards indexed, {self.samples:,} samples in {duration(self.seconds)}{rate}"
        if self.table is None:
            return f"{done}; {self.missing:,} shards have no sidecar yet, and the last task writes the table"
        return f"{done}; the table is {self.table}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "table": None if self.table is None else str(self.table),
            "shards": self.shards,
            "written": self.written,
            "samples": self.samples,
            "missing": self.missing,
            "seconds": round(self.seconds, 2),
        }


def shards_of(given: str, overrides: Sequence[str]) -> ShardsConfig:
    """Return the settings of the shards that a path, or the recipe that reads them, names.

    Args:
        given: A folder of shards, one shard or a pattern; or a recipe, a YAML file or a run folder.
        overrides: For a path settings of the source, such as picture=photo.png; for a recipe changes to it.

    Raises:
        ConfigError: The recipe reads something else, or a setting cannot be used.
    """
    path = Path(given).expanduser()
    if is_packaged(given) or path.suffix in (".yaml", ".yml") or resolved_settings(path) is not None:
        source = load_any_recipe(given, overrides).data.source
        inner = source.of if isinstance(source, ShrunkConfig) else source
        if not isinstance(inner, ShardsConfig):
            raise ConfigError(f"{given} reads {inner.kind}", needed="data.source.kind=shards, which alone have an index")
        return inner
    return build_config(ShardsConfig, {"kind": "shards", "path": given}, overrides, source="the shards")


def index_data(config: ShardsConfig, task: Task | None = None, *, digests: bool = True, silent: bool = False) -> IndexResult:
    """Write what is missing of the sidecars, or is of another state of its shard, and the table once all are there.

    Args:
        config: Names the shards, and says how their members are read.
        task: Which share of the shards; None for all.
        digests: Whether the pictures are read for their hashes, by which caches are compared.
        silent: No progress is shown.

    Raises:
        DataError: A shard cannot be used.
        DiskError: The folder of the shards cannot be written.
    """
    started, written, samples = time.perf_counter(), 0, 0
    located = locate_shards(config.path, config.remote)
    storage, shards = located.storage, located.shards
    for folder in {shard.parent for shard in shards}:
        remove_temporary_files(folder)
    own = shards if task is None else task.share(shards)
    with Progress(len(own), label="index:", unit="shards", silent=silent) as progress:
        for number, shard in enumerate(own):
            if not _is_indexed(config, storage, shard, digests=digests):
                _at_hand(storage, shard)
                before = Stamp.of(shard.stat())
                index = index_shard(shard, config.rules, remember=False)
                write_sidecar(shard, index, config.rules, before, digests=digests)
                storage.made_here(sidecar_of(shard, config.rules))
                written, samples = written + 1, samples + len(index.entries)
            progress.update(number + 1)
    missing = sum(not _is_indexed(config, storage, shard, digests=digests) for shard in shards)
    seconds = time.perf_counter() - started
    table = None if missing else _with_table(config, located)
    return IndexResult(table, len(shards), written, samples, missing, seconds)


def _at_hand(storage: Storage, shard: Path) -> None:
    """Fetch a shard that is behind a network."""
    if isinstance(storage, RemoteFiles):
        try:
            storage.fetch(shard)
        except NotThereError as error:
            raise DataError(f"{error} is missing", fix="check the address") from None
        except NetworkError as error:
            raise DataError(str(error), fix="check the network, and run the same command again") from None


def _is_indexed(config: ShardsConfig, storage: Storage, shard: Path, *, digests: bool) -> bool:
    for path in sidecars_of(shard, config.rules):
        storage.obtain(path)
    try:
        sidecar = read_sidecar(shard, config.rules)
    except (FileNotFoundError, DataError):
        return False
    return not storage.changed(shard, sidecar.stamp) and (not digests or "digest" in sidecar)


def _with_table(config: ShardsConfig, located: LocatedShards) -> Path:
    """Write the table, then with the hashes of the whole index, which are those of the same shards without a table."""
    shards = located.shards
    located.storage.made_here(write_table(shards, config.rules, {}))  # or an older one behind the network would take its place
    return write_table(shards, config.rules, config.open().known_hashes())
