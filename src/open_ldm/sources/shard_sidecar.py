"""SHARD.index.safetensors: the index of one tar shard, beside it, as named columns that are mapped and not loaded.

Where members are read by other rules than the usual ones, a hash of these is in the name, so that several lie side by side.

A sidecar belongs to a shard of one size and one time of change, and to one way of reading members (ShardRules). Each column has
a hash of its own, which is compared when the column is first used.

    offset, size, text_offset, text_size, json_offset, json_size    int64 [n]     where the members' contents are
    text_is_json    bool [n]        whether captions stand in KEY.json
    text_hash       int64 [n]       63 bits of a hash of the captions; 0 for none
    original_height, original_width int32 [n]     0 where unknown
    label           int32 [n]       number among the sidecar's `labels`; -1 for none
    hold_out        int64 [n]       the number that a hold-out of seed 0 compares with its share
    digest          uint8 [n, 16]   BLAKE2b of the picture's bytes
    keys, text, json    uint8       keys, caption files and KEY.json in their bytes, one after the other
    keys_end, text_end, json_end    int64 [n]     where each of them ends
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from open_ldm.core.errors import DataError
from open_ldm.core.files import read_at, write_bytes
from open_ldm.core.plain_data import parse_json, to_json
from open_ldm.core.seeds import key as number_of
from open_ldm.data.sample import printable
from open_ldm.sources.shard_index import MOST_JSON_BYTES, ShardEntry, ShardIndex, ShardRules

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIX = ".index.safetensors"
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
}
_VERSION = 1
_DIGEST_BYTES = 16


def sidecar_of(shard: Path, rules: ShardRules | None = None) -> Path:
    """Return the path of a shard's sidecar for one way of reading members; None is the usual one, whose name is plain."""
    mark = (
        ""
        if rules is None or rules == ShardRules()
        else f".{hashlib.blake2b(to_json(_rules(rules)).encode(), digest_size=4).hexdigest()}"
    )
    return shard.with_name(shard.name.removesuffix(shard.suffix) + mark + SUFFIX)


def sidecars_of(shard: Path, rules: ShardRules) -> list[Path]:
    """Return the paths at which a shard's sidecar may be: of every way of reading it was once written at the plain one."""
    return list(dict.fromkeys((sidecar_of(shard, rules), sidecar_of(shard))))


def hold_out_number(seed: int, sample_id: str) -> int:
    """Return the number below 2**63 that a hold-out compares with its share."""
    return number_of(seed, f"holdout {sample_id}")


@dataclass(frozen=True)
class Stamp:
    """The state of a shard that a sidecar belongs to: its size in bytes and its time of change in nanoseconds."""

    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return that of a file's status."""
        return cls(status.st_size, status.st_mtime_ns)


@dataclass
class Sidecar:
    """A mapped sidecar.

    Attributes:
        path: Its file.
        stamp: The state of the shard that it belongs to.
        samples: Number of samples.
        labels: The distinct labels, by their numbers in the column `label`.
        faults: What is wrong with samples that cannot be used, by their number.
        told: Everything else that is known of the shard: names in .json, members that are not used, folders.
    """

    path: Path
    stamp: Stamp
    samples: int
    labels: tuple[int | str, ...]
    faults: Mapping[int, str]
    told: Mapping[str, Any]
    _arrays: Mapping[str, Array]
    _hashes: Mapping[str, str]
    _compared: set[str] = field(default_factory=set)

    def __getitem__(self, column: str) -> Array:
        """Return a column, mapped. Raises DataError where its bytes are not those that were written."""
        array = self._arrays[column]
        if column not in self._compared:
            if _hash(array) != self._hashes[column]:
                raise damaged(self.path, f"column {column}")
            self._compared.add(column)
        return array

    def compare(self) -> None:
        """Compare all columns with their hashes. Raises DataError as `__getitem__`."""
        for column in self._arrays:
            self[column]

    def __contains__(self, column: str) -> bool:
        return column in self._arrays

    def bytes_of(self, column: str, row: int) -> bytes:
        """Return one row of keys, text or json."""
        ends = self[f"{column}_end"]
        start = int(ends[row - 1]) if row else 0
        return self[column][start : int(ends[row])].tobytes()

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        return self.bytes_of("keys", row).decode("utf-8", "surrogateescape")


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
    path.stat()
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            content = parse_json((opened.metadata() or {})["index"])
            arrays = {name: opened.get_tensor(name).numpy() for name in opened.keys()}  # noqa: SIM118 - no mapping
        if content["version"] != _VERSION:
            raise damaged(path, f"version {content['version']}")
        if content["rules"] != _rules(rules):
            if path != paths[0]:
                raise FileNotFoundError(errno.ENOENT, "the sidecar is of other settings", str(paths[0]))
            raise DataError(f"{path} is of other data.source settings", fix="ldm data index with the settings of the recipe")
        return Sidecar(
            path=path,
            stamp=Stamp(int(content["bytes"]), int(content["mtime_ns"])),
            samples=len(arrays["offset"]),
            labels=tuple(content["labels"]),
            faults={int(row): str(fault) for row, fault in content["faults"].items()},
            told=content["told"],
            _arrays=arrays,
            _hashes=content["hashes"],
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


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
    labels = list(dict.fromkeys(entry.label for entry in index.entries if entry.label is not None))
    numbers = {label: number for number, label in enumerate(labels)}
    columns["label"] = np.array(
        [-1 if entry.label is None else numbers[entry.label] for entry in index.entries], dtype=np.int32
    )
    told = {
        "without_picture": index.without_picture,
        "ignored": dict(index.ignored),
        "merged": index.merged,
        "names": list(index.names),
        "folders": sorted({entry.key.partition("/")[0] for entry in index.entries if "/" in entry.key}),
    }
    content = {
        "version": _VERSION,
        "bytes": stamp.bytes,
        "mtime_ns": stamp.mtime_ns,
        "rules": _rules(rules),
        "labels": labels,
        "faults": {str(row): entry.fault for row, entry in enumerate(index.entries) if entry.fault},
        "told": told,
        "hashes": {name: _hash(column) for name, column in columns.items()},
    }
    write_bytes(sidecar_of(shard, rules), safetensors.numpy.save(columns, {"index": to_json(content)}))


def damaged(path: Path, what: str) -> DataError:
    """Return the error for a sidecar or a table whose bytes are not those that were written."""
    return DataError(f"{path} is damaged ({what})", fix=f"rm {path}, then ldm data index")


def _columns(shard: Path, index: ShardIndex, handle: int, *, digests: bool) -> dict[str, Array]:
    entries = index.entries
    rows = list(map(attrgetter(*NUMBERS), entries))
    table = np.array(rows, dtype=list(NUMBERS.items()))
    columns: dict[str, Array] = {name: np.ascontiguousarray(table[name]) for name in NUMBERS}
    texts = [b"" if entry.text_is_json else read_at(handle, entry.text_size, entry.text_offset) for entry in entries]
    details = [read_at(handle, min(entry.json_size, MOST_JSON_BYTES), entry.json_offset) for entry in entries]
    for name, parts in {
        "keys": [entry.key.encode("utf-8", "surrogateescape") for entry in entries],
        "text": texts,
        "json": details,
    }.items():
        columns[name] = np.frombuffer(b"".join(parts), dtype=np.uint8)
        columns[f"{name}_end"] = np.cumsum([len(part) for part in parts], dtype=np.int64)
    ids = [printable(f"{shard.stem}/{entry.key}") for entry in entries]
    columns["hold_out"] = np.array([hold_out_number(0, sample_id) for sample_id in ids], dtype=np.int64)
    if digests:
        columns["digest"] = _digests(handle, entries)
    return columns


def _digests(handle: int, entries: Sequence[ShardEntry]) -> Array:
    found = bytearray()
    for entry in entries:
        found += hashlib.blake2b(read_at(handle, entry.size, entry.offset), digest_size=_DIGEST_BYTES).digest()
    return np.frombuffer(bytes(found), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)


def _hash(array: Array) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()


def _rules(rules: ShardRules) -> Any:
    return json.loads(json.dumps([list(rules.suffixes), rules.picture, sorted(map(list, rules.columns))]))
