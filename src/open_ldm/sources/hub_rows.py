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


def ids_of(rows: Any, columns: HubColumns) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of the samples, None where rows are counted, and what to say about it."""
    if not columns.file_name:
        return None, ""
    names = [printable(name or "") for name in values_of(rows, columns.file_name)]
    if len(set(names)) == len(names) and all(names):
        return tuple(names), ""
    return None, f"column {columns.file_name} is empty or repeats: samples are named by their row"


def labels_of(rows: Any, columns: HubColumns) -> list[int | str | None]:
    """Return the label of every row, None where there is none."""
    return [without_point(label) for label in values_of(rows, columns.label)] if columns.label else [None] * len(rows)


def is_whole(rows: Any, column: str) -> bool:
    """Tell whether a column of floats holds whole numbers and nothing else, but for missing ones."""
    known = [value for value in values_of(rows, column) if value is not None and not math.isnan(value)]
    return bool(known) and all(value.is_integer() for value in known)


def sizes_of(rows: Any, columns: HubColumns, where: str) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Return the original (height, width) of every row, 0 where unknown; None without such columns. Raises DataError."""
    if not (columns.height and columns.width):
        return None
    pairs = zip(values_of(rows, columns.height), values_of(rows, columns.width), strict=True)
    read = [
        original_size_from({"original_height": height, "original_width": width}, f"{where} row {row}") or (0, 0)
        for row, (height, width) in enumerate(pairs)
    ]
    return np.array(read, np.int32)
