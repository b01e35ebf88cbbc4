"""Opening the rows of a table: by the table of its arrow files, where there is one, else by reading what each row says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from open_ldm.sources.arrow_sidecar import ArrowSettings
from open_ldm.sources.hub_columns import choose_columns
from open_ldm.sources.hub_rows import is_whole
from open_ldm.sources.hub_table import HubTable
from open_ldm.sources.listed_rows import ListedRows
from open_ldm.sources.mapped_rows import MappedRows
from open_ldm.sources.shard_table import read_table


def open_rows(opened: HubTable, picture: str | None, columns: Mapping[str, str]) -> ListedRows | MappedRows:
    """Open the rows of a table.

    Args:
        opened: The table.
        picture: Name of the column of pictures; None takes the one there is.
        columns: Names of columns by role where they are called otherwise.

    Raises:
        DataError: The files or their table cannot be read, or there is no column of pictures.
    """
    settings = ArrowSettings(opened.split, picture, tuple(sorted(columns.items())))
    table = read_table(opened.files, settings) if opened.files else None
    if table is None:
        rows = opened.rows
        return ListedRows(opened, choose_columns(rows.features, picture, columns, opened.path, partial(is_whole, rows)))
    whole = frozenset(table.also["whole"])
    chosen = choose_columns(opened.features, picture, columns, opened.path, whole.__contains__)
    return MappedRows(opened, chosen, table)
