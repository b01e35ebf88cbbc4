"""`ldm data index`: write the sidecar of each tar shard or arrow file, and the table of all."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from open_ldm.commands.index_arrow import ArrowFiles
from open_ldm.commands.index_tar import TarShards
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import Progress, duration
from open_ldm.core.files import remove_temporary_files
from open_ldm.core.shown import ShownAsText
from open_ldm.core.tasks import Task
from open_ldm.runs.autoencoder.recipe import load_any_recipe
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.catalogue import is_packaged
from open_ldm.runs.recipe import build_config
from open_ldm.sources.hub_table import is_hub_name, is_table
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.shrunk import ShrunkConfig

_HUB = "kind=huggingface"
_OF_RECIPES = re.compile(r"\bdata\.source\.(?=\w)")

IndexedConfig = ShardsConfig | HuggingFaceConfig
"""The settings of data that can have a table."""


class Indexed(Protocol):
    """Shards that get a sidecar each and a table of all."""

    shards: Sequence[Path]

    def is_indexed(self, number: int, *, digests: bool) -> bool:
        """Return whether a shard has the sidecar of its present state; `digests` asks for the hashes of its pictures too."""

    def write(self, number: int, *, digests: bool) -> int:
        """Write the sidecar of a shard and return its number of samples. Raises DataError, DiskError."""

    def write_table(self) -> Path:
        """Write the table, then with the hashes of the whole index, which are those of the same shards without a table."""

    def remove_earlier(self) -> int:
        """Remove what was written for earlier states of the same set, and return how many files."""


@dataclass(frozen=True)
class IndexResult(ShownAsText):
    """What `ldm data index` did. `table` is None while `missing` shards, of other tasks, lack their sidecar.

    `removed` counts files that it had written for earlier states of the same set.
    """

    table: Path | None
    shards: int
    written: int
    samples: int
    missing: int
    seconds: float
    removed: int = 0

    def text(self) -> str:
        """'100 of 1,000 shards indexed, 10,000 samples in 1 s; the table is data/shards-0a.index.safetensors'."""
        rate = f", {self.samples / self.seconds:,.0f} samples/s" if self.samples else ""
        done = f"{self.written:,} of {self.shards:,} shards indexed, {self.samples:,} samples in {duration(self.seconds)}{rate}"
        if self.table is None:
            return f"{done}; {self.missing:,} shards have no sidecar yet, and the last task writes the table"
        removed = f"; {self.removed:,} files of earlier states of the set were removed" if self.removed else ""
        return f"{done}; the table is {self.table}{removed}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "table": None if self.table is None else str(self.table),
            "shards": self.shards,
            "written": self.written,
            "samples": self.samples,
            "missing": self.missing,
            "seconds": round(self.seconds, 2),
            "removed": self.removed,
        }


def source_of(given: str, overrides: Sequence[str]) -> IndexedConfig:
    """Return the settings of the shards or tables that a path, or the recipe that reads them, names.

    Args:
        given: A folder of shards, one shard or a pattern; tables of `datasets`; or a recipe, a YAML file or a run folder.
        overrides: For a path settings of the source, such as picture=photo.png, or kind=huggingface for a hub name; for a
            recipe changes to it.

    Raises:
        ConfigError: The recipe reads something else, or a setting cannot be used.
    """
    if _is_recipe(given):
        source = load_any_recipe(given, overrides).data.source
        inner = source.of if isinstance(source, ShrunkConfig) else source
        if not isinstance(inner, ShardsConfig | HuggingFaceConfig):
            raise ConfigError(f"{given} reads {inner.kind}", needed="shards or huggingface, which alone have an index")
        return inner
    if _HUB in overrides or is_table(Path(given).expanduser()):
        rest = [override for override in overrides if override != _HUB]
        return build_config(HuggingFaceConfig, {"kind": "huggingface", "path": given}, rest, source="the tables")
    return build_config(ShardsConfig, {"kind": "shards", "path": given}, overrides, source="the shards")


@contextmanager
def settings_of(given: str, overrides: Sequence[str]) -> Iterator[None]:
    """Context manager that makes errors about what `source_of` was given name the settings which it takes.

    For a path that is split=test where a recipe takes data.source.split=test, and for what may be a hub name kind=huggingface.
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        if not _is_recipe(given):
            error.problem, error.needed, error.fix = (
                _OF_RECIPES.sub("", text) for text in (error.problem, error.needed, error.fix)
            )
            if is_hub_name(given) and _HUB not in overrides:
                error.fix = f"for a hub name add {_HUB}; for a path {error.fix or 'check it'}"
            error.args = (error.one_line(),)
        raise


def _is_recipe(given: str) -> bool:
    path = Path(given).expanduser()
    return is_packaged(given) or path.suffix in (".yaml", ".yml") or resolved_settings(path) is not None


def index_data(config: IndexedConfig, task: Task | None = None, *, digests: bool = True, silent: bool = False) -> IndexResult:
    """Write what is missing of the sidecars, or is of another state of its shard, and the table once all are there.

    With the table, what was written beside arrow files for earlier states of the same set is removed.

    Args:
        config: Names the shards, and says how they are read.
        task: Which share of the shards; None for all.
        digests: Whether the pictures are read for their hashes, by which caches are compared.
        silent: No progress is shown.

    Raises:
        DataError: A shard cannot be used.
        DiskError: The folder of the shards cannot be written.
    """
    started, written, samples = time.perf_counter(), 0, 0
    found: Indexed = TarShards(config) if isinstance(config, ShardsConfig) else ArrowFiles(config)
    shards = found.shards
    for folder in {shard.parent for shard in shards}:
        remove_temporary_files(folder)
    own = range(len(shards)) if task is None else task.share(range(len(shards)))
    with Progress(len(own), label="index:", unit="shards", silent=silent) as progress:
        for done, number in enumerate(own, 1):
            if not found.is_indexed(number, digests=digests):
                written, samples = written + 1, samples + found.write(number, digests=digests)
            progress.update(done)
    missing = sum(not found.is_indexed(number, digests=digests) for number in range(len(shards)))
    seconds = time.perf_counter() - started
    if missing:
        return IndexResult(None, len(shards), written, samples, missing, seconds)
    table = found.write_table()
    return IndexResult(table, len(shards), written, samples, 0, seconds, found.remove_earlier())
