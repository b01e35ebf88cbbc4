"""Where samples lie in shards, as one array: a million small objects would be copied into every process that reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
_OF_ENTRY = [name for name in ROW.names or () if name not in ("shard", "label")]


def rows_of(entries: Sequence[ShardEntry], shards: Sequence[int], labels: Sequence[int]) -> Rows:
    """Return a row for each entry, with the number of its shard and the index of its class."""
    pairs = zip(entries, shards, labels, strict=True)
    return np.array([(shard, label, *(getattr(entry, name) for name in _OF_ENTRY)) for entry, shard, label in pairs], dtype=ROW)
