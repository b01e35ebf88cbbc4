"""Where samples lie in shards, as one array: a million small objects would be copied into every process that reads."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from open_ldm.sources.labels import NO_LABEL
from open_ldm.sources.shard_index import ShardEntry

Rows = np.ndarray[Any, np.dtype[np.void]]

ROW = np.dtype(
    [
        ("shard", "i4"),
        ("label", "i4"),
        ("offset", "i8"),
        ("size", "i8"),
        ("text_offset", "i8"),
        ("text_size", "i8"),
        ("text_is_json", "?"),
        ("text_hash", "i8"),
        ("original_height", "i4"),
        ("original_width", "i4"),
    ]
)
_OF_ENTRY = tuple(name for name in ROW.names or () if name not in ("shard", "label"))
_NUMBERS = attrgetter(*_OF_ENTRY)
_PLACED = np.dtype([(name, ROW[name]) for name in _OF_ENTRY])


def rows_of(shard: int, entries: Sequence[ShardEntry]) -> Rows:
    """Return a row for each entry of a shard; labels are not known yet."""
    rows = np.zeros(len(entries), dtype=ROW)
    rows["shard"], rows["label"] = shard, NO_LABEL
    placed = np.array(list(map(_NUMBERS, entries)), dtype=_PLACED)
    for name in _OF_ENTRY:
        rows[name] = placed[name]
    return rows
