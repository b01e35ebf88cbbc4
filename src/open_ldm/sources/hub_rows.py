"""What a table says of each row besides its picture: names, labels, captions and original sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from open_ldm.data.sample import printable
from open_ldm.sources.hub_columns import HubColumns, values_of
from open_ldm.sources.metadata import captions_from, original_size_from, without_point


def captions_in_cell(cell: Any) -> tuple[str, ...]:
    """Return the captions of a cell: a text, a list, or nothing."""
    return captions_from([text for text in cell if text is not None] if isinstance(cell, list) else cell, "")


def names_of(rows: Any, columns: HubColumns) -> tuple[str, ...] | None:
    """Return the names of the samples; None where rows are counted: no column names them, or it is empty or repeats."""
    if not columns.file_name:
        return None
    names = tuple(printable(name or "") for name in values_of(rows, columns.file_name))
    return names if len(set(names)) == len(names) and all(names) else None


def said_of_names(columns: HubColumns, *, named: bool) -> str:
    """Say where a column of names cannot be used; '' otherwise."""
    if named or not columns.file_name:
        return ""
    return f"column {columns.file_name} is empty or repeats: samples are named by their row"


def counted_id(split: str, row: int) -> str:
    """Return the id of a sample that is named by its row."""
    return f"{split}/{row:08d}"


def labels_of(rows: Any, columns: HubColumns) -> list[int | str | None]:
    """Return the label of every row, None where there is none."""
    return [without_point(label) for label in values_of(rows, columns.label)] if columns.label else [None] * len(rows)


def is_whole(rows: Any, column: str) -> bool:
    """Tell whether a column of floats holds whole numbers and nothing else, but for missing ones."""
    known = [value for value in values_of(rows, column) if value is not None and not math.isnan(value)]
    return bool(known) and all(value.is_integer() for value in known)


def sizes_of(rows: Any, columns: HubColumns, where: str, first: int = 0) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Return the original (height, width) of every row, 0 where unknown; None without such columns.

    Args:
        rows: The rows.
        columns: Which columns they have.
        where: Name of the table, for messages.
        first: Number of the first row in the table.

    Raises:
        DataError: A size is no size.
    """
    if not (columns.height and columns.width):
        return None
    pairs = zip(values_of(rows, columns.height), values_of(rows, columns.width), strict=True)
    read = [
        original_size_from({"original_height": height, "original_width": width}, f"{where} row {row}") or (0, 0)
        for row, (height, width) in enumerate(pairs, first)
    ]
    return np.array(read, np.int32).reshape(-1, 2)
