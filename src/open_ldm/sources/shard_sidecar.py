"""SHARD.index.safetensors: the index of one tar shard, beside it (sidecar.py).

Where members are read by other rules than the usual ones, a hash of these is in the name, so that several lie side by side.
Columns of tar shards beside those of every sidecar:

    offset, size, text_offset, json_offset, json_size    int64 [n]     where the members' contents are, with text_size
    text_is_json    bool [n]        whether captions stand in KEY.json
    captioned       bool [n]        whether one of the captions is not empty; sidecars did not always have this column
    text_hash       int64 [n]       63 bits of a hash of the captions; 0 for none
    original_height, original_width int32 [n]     0 where unknown
    text, json      uint8           caption files and KEY.json in their bytes, one after the other
    text_end, json_end              int64 [n]     where each of them ends
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from open_ldm.core.collector import collector_off
from open_ldm.core.errors import DataError
from open_ldm.core.read_ahead import ReadAhead
from open_ldm.data.sample import printable
from open_ldm.sources.shard_captions import has_caption
from open_ldm.sources.shard_index import MOST_JSON_BYTES, ShardEntry, ShardIndex, ShardRules
from open_ldm.sources.sidecar import (
    Array,
    Sidecar,
    SidecarContent,
    Stamp,
    beside,
    bytes_columns,
    hold_out_number,
    map_sidecar,
    save_sidecar,
)

NUMBERS = {
    "offset": np.int64,
    "size": np.int64,
    "text_offset": np.int64,
    "text_size": np.int64,
    "text_is_json": np.bool_,
    "text_hash": np.int64,
    "original_height": np.int32,
    "original_width": np.int32,
    "json_offset": np.int64,
    "json_size": np.int64,
    "captioned": np.bool_,
}
_DIGEST_BYTES = 16


def sidecar_of(shard: Path, rules: ShardRules | None = None) -> Path:
    """Return the path of a shard's sidecar for one way of reading members; None is the usual one, whose name is plain."""
    return beside(shard, None if rules is None or rules == ShardRules() else _plain(rules))


def sidecars_of(shard: Path, rules: ShardRules) -> list[Path]:
    """Return the paths at which a shard's sidecar may be: of every way of reading it was once written at the plain one."""
    return list(dict.fromkeys((sidecar_of(shard, rules), sidecar_of(shard))))


def read_sidecar(shard: Path, rules: ShardRules) -> Sidecar:
    """Map the sidecar of a shard.

    Args:
        shard: The shard, which is not looked at.
        rules: How its members are read.

    Raises:
        FileNotFoundError: There is none.
        DataError: It is damaged, or belongs to other rules.
    """
    paths = sidecars_of(shard, rules)
    path = next((each for each in paths if each.exists()), paths[0])
    sidecar = map_sidecar(path)
    if sidecar.rules != _plain(rules):
        if path != paths[0]:
            raise FileNotFoundError(errno.ENOENT, "the sidecar is of other settings", str(paths[0]))
        raise DataError(f"{path} is of other data.source settings", fix="ldm data index with the settings of the recipe")
    return sidecar


def count_captioned(sidecar: Sidecar, rules: ShardRules) -> int:
    """Return how many samples have a caption that is not empty. Raises DataError where the sidecar is damaged."""
    if "captioned" in sidecar:
        return int(np.count_nonzero(sidecar["captioned"]))
    in_json, name = sidecar["text_is_json"], rules.column("text")
    rows = np.flatnonzero(sidecar["text_size"]).tolist()
    return sum(
        has_caption(sidecar.bytes_of("json", row), name) if in_json[row] else has_caption(sidecar.bytes_of("text", row), None)
        for row in rows
    )


def write_sidecar(shard: Path, index: ShardIndex, rules: ShardRules, before: Stamp, *, digests: bool) -> None:
    """Write the sidecar of a shard.

    Args:
        shard: The shard, which is read for captions and, for digests, whole.
        index: Its samples.
        rules: How its members are read.
        before: What the shard was when its index was begun.
        digests: Whether the hashes of its pictures are computed.

    Raises:
        DataError: The shard changed meanwhile.
        DiskError: The disk refuses.
    """
    with shard.open("rb") as file:
        stamp = Stamp.of(os.fstat(file.fileno()))
        columns = _columns(shard, index, file.fileno(), digests=digests) if stamp == before else {}
        if not before == stamp == Stamp.of(os.fstat(file.fileno())):
            raise DataError(f"shard {shard} changed while it was indexed", fix="run the same command again")
    told = {
        "without_picture": index.without_picture,
        "ignored": dict(index.ignored),
        "merged": index.merged,
        "names": list(index.names),
        "folders": sorted({entry.key.partition("/")[0] for entry in index.entries if "/" in entry.key}),
    }
    faults = {row: entry.fault for row, entry in enumerate(index.entries) if entry.fault}
    content = SidecarContent(columns, [entry.label for entry in index.entries], faults, told)
    save_sidecar(sidecar_of(shard, rules), stamp, _plain(rules), content)


@collector_off()
def _columns(shard: Path, index: ShardIndex, handle: int, *, digests: bool) -> dict[str, Array]:
    entries = index.entries
    rows = list(map(attrgetter(*NUMBERS), entries))
    table = np.array(rows, dtype=list(NUMBERS.items()))
    columns: dict[str, Array] = {name: np.ascontiguousarray(table[name]) for name in NUMBERS}
    columns |= bytes_columns("keys", [entry.key.encode("utf-8", "surrogateescape") for entry in entries])
    file = ReadAhead(handle)
    texts = [
        b"" if entry.text_is_json or not entry.text_size else file.read(entry.text_size, entry.text_offset) for entry in entries
    ]
    columns |= bytes_columns("text", texts)
    details = [
        file.read(min(entry.json_size, MOST_JSON_BYTES), entry.json_offset) if entry.json_size else b"" for entry in entries
    ]
    columns |= bytes_columns("json", details)
    ids = [printable(f"{shard.stem}/{entry.key}") for entry in entries]
    columns["hold_out"] = np.array([hold_out_number(0, sample_id) for sample_id in ids], dtype=np.int64)
    if digests:
        columns["digest"] = _digests(handle, entries)
    return columns


def _digests(handle: int, entries: Sequence[ShardEntry]) -> Array:
    found, file = bytearray(), ReadAhead(handle)
    for entry in entries:
        found += hashlib.blake2b(file.read(entry.size, entry.offset), digest_size=_DIGEST_BYTES).digest()
    return np.frombuffer(bytes(found), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)


def _plain(rules: ShardRules) -> Any:
    return json.loads(json.dumps([list(rules.suffixes), rules.picture, sorted(map(list, rules.columns))]))
