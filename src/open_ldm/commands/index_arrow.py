"""What `ldm data index` writes beside the arrow files of `datasets`: a sidecar of each, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from open_ldm.core.errors import DataError
from open_ldm.core.extras import need
from open_ldm.sources.arrow_sidecar import (
    ArrowRules,
    ArrowSettings,
    count_captioned,
    read_arrow_sidecar,
    write_arrow_sidecar,
)
from open_ldm.sources.earlier_states import name_of_set, remove_earlier, state_of
from open_ldm.sources.hub_columns import HubColumns, choose_columns
from open_ldm.sources.hub_rows import is_whole, names_of
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shard_table import require_one_folder, write_table
from open_ldm.sources.sidecar import Sidecar, Stamp


class ArrowFiles:
    """The arrow files of one split; see `data_index.Indexed`.

    Args:
        config: Names the set, and says how its rows are read.

    Raises:
        ConfigError: There is no such set or split.
        DataError: Its rows cannot be read, or are not those of whole arrow files.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self._config, self._opened = config, config.find()
        self.shards: Sequence[Path] = self._opened.files
        if not self.shards:
            raise DataError(f"{config.path} lies in memory, not in arrow files", fix="unset HF_DATASETS_IN_MEMORY_MAX_SIZE")
        require_one_folder(self.shards)
        self._stamps = [Stamp.of(file.stat()) for file in self.shards]
        self._rows: Any = self._opened.rows
        self._given = {str(role): name for role, name in config.columns.items()}
        self._counts = self._count_rows()
        self._firsts = list(accumulate(self._counts, initial=0))
        self._whole: list[str] = []
        self._columns: HubColumns = choose_columns(
            self._rows.features, config.picture, self._given, config.path, self._note_whole
        )

    def is_indexed(self, number: int, *, digests: bool) -> bool:
        """See `Indexed`."""
        try:
            sidecar = self._sidecar(number)
        except (FileNotFoundError, DataError):
            return False
        return sidecar.stamp == self._stamps[number] and (not digests or "digest" in sidecar)

    def write(self, number: int, *, digests: bool) -> int:
        """See `Indexed`."""
        rules, count = self._rules(number), self._counts[number]
        chosen = range(rules.first, rules.first + count)
        rows = self._rows.select(chosen if count else [])  # the library refuses an empty range at the end
        names = None if self._names is None else self._names[rules.first : rules.first + count]
        stamp, data_set = self._stamps[number], self._data_set
        write_arrow_sidecar(self.shards[number], rows, rules, names, self._config, stamp, data_set, digests=digests)
        return count

    def write_table(self) -> Path:
        """See `Indexed`."""
        settings = ArrowSettings(self._opened.split, self._config.picture, tuple(sorted(self._given.items())))
        sidecars = [self._sidecar(number) for number in range(len(self.shards))]
        also = {
            "whole": self._whole,
            "named": self._names is not None,
            "outside": [len(sidecar["outside"]) for sidecar in sidecars],
            "data_set": list(self._data_set),
            "state": state_of(self.shards, self._counts),
        }
        write_table(self.shards, settings, sidecars, {}, count_captioned, also)
        return write_table(self.shards, settings, sidecars, self._config.open().known_hashes(), count_captioned, also)

    def remove_earlier(self) -> int:
        """See `Indexed`."""
        return remove_earlier(self.shards, self._firsts, self._data_set, state_of(self.shards, self._counts))

    @cached_property
    def _data_set(self) -> tuple[str, ...]:
        return name_of_set(self._config, self._opened.split, self.shards[0].parent)

    def _sidecar(self, number: int) -> Sidecar:
        return read_arrow_sidecar(self.shards[number], self._rules(number))

    def _rules(self, number: int) -> ArrowRules:
        return ArrowRules(self._opened.split, self._columns, self._names is not None, self._firsts[number])

    def _note_whole(self, name: str) -> bool:
        if whole := is_whole(self._rows, name):
            self._whole.append(name)
        return whole

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        return names_of(self._rows, self._columns)

    def _count_rows(self) -> list[int]:
        """The number of rows of each file. Raises DataError where the rows of the set are not those of its files in order."""
        tables = need("datasets.table", extra="data").MemoryMappedTable
        schema, counts, alike = self._rows.data.schema, [], self._opened.features == self._rows.features
        for file in self.shards:
            opened = tables.from_file(str(file))
            counts.append(opened.num_rows)
            alike &= opened.schema.equals(schema, check_metadata=False)
        if not alike or sum(counts) != len(self._rows) or len(set(self.shards)) != len(self.shards):
            raise DataError(
                f"{self._config.path}: the rows are not those of its {len(self.shards):,} arrow files, one after the other",
                needed="whole files whose columns have the same types",
                fix="write the set again by save_to_disk, and index that",
            )
        return counts
