"""Removing what `ldm data index` wrote beside arrow files for earlier states of their set.

A sidecar is named by its file and the number of the file's first row, and a table by all files. When files are added, removed
or written anew, those of before are read by nobody any more. Sidecars and tables say which set they were written for; what
says nothing, or another set, stays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from open_ldm.core.errors import DataError
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shard_table import tables_in, told_of_set
from open_ldm.sources.sidecar import SUFFIX, beside, map_sidecar


def name_of_set(config: HuggingFaceConfig, split: str, folder: Path) -> tuple[str, ...]:
    """Return what names a set in all its states: its path from the folder of its files, or its hub name, and the split."""
    given = Path(config.path).expanduser()
    where = os.path.relpath(given.resolve(), folder.resolve()) if given.exists() else config.path
    return (where, config.subset or "", split)


def state_of(files: Sequence[Path], rows: Sequence[int]) -> str:
    """Return a hash of the names of a set's files and their numbers of rows."""
    return hashlib.blake2b(repr([(file.name, count) for file, count in zip(files, rows, strict=True)]).encode()).hexdigest()[
        :16
    ]


def remove_earlier(files: Sequence[Path], firsts: Sequence[int], data_set: Sequence[str], state: str) -> int:
    """Remove the sidecars and tables of earlier states of a set; several processes may.

    Args:
        files: All files of the set, in one folder.
        firsts: The number of the first row of each.
        data_set: As `name_of_set`.
        state: As `state_of`.

    Returns:
        How many files were removed.
    """
    folder, now = files[0].parent, {file.stem: first for file, first in zip(files, firsts, strict=False)}
    there = {file.stem for file in folder.iterdir() if file.suffix.lower() == ".arrow"}
    tables = {table: told_of_set(table) for table in tables_in(folder)}
    own = [table for table, told in tables.items() if told.get("data_set") == list(data_set)]
    gone = [table for table in own if tables[table].get("state") != state]
    for path in set(folder.glob(f"*{SUFFIX}")) - set(tables):
        name, first = _written_for(path, data_set)
        alone = first == 0 and name in there and len(own) < len(tables)  # perhaps of a set that is this file alone
        if name and now.get(name) != first and not alone:
            gone.append(path)
    removed = 0
    for path in gone:
        with suppress(OSError):  # another process was quicker, or the folder may not be changed
            path.unlink()
            removed += 1
    return removed


def _written_for(path: Path, data_set: Sequence[str]) -> tuple[str, int]:
    """The name of the arrow file, without its ending, and the number of its first row; no name for what is of another set."""
    name = path.name.removesuffix(SUFFIX).rpartition(".")[0]
    try:
        sidecar = map_sidecar(path)
        own = sidecar.told.get("data_set") == list(data_set) and beside(path.with_name(f"{name}.arrow"), sidecar.rules) == path
        return (name, int(sidecar.rules[2])) if own else ("", 0)
    except (OSError, DataError):
        return "", 0
