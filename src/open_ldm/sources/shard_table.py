"""The table of shards: one file beside them that says of each how many samples it has, so that starting reads no index.

Shards are tar shards or arrow files. shards-HASH.index.safetensors, with a hash of their names and of how they are read:

    samples, bytes, mtime_ns, captioned    int64 [shards]
    label_shard, label, label_count        int32, int32, int64 [m]    how many samples of a shard have which of the `labels`
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from open_ldm.core.errors import DataError
from open_ldm.core.files import write_bytes
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json, plain, to_json
from open_ldm.data.permutation import Indices
from open_ldm.sources.sidecar import SUFFIX, Sidecar, Stamp, damaged

_VERSION = 1
_PREFIX = "shards-"


@dataclass(frozen=True)
class Told:
    """What is known of all shards together: samples without a picture; of tar shards also members that are not used, names in
    .json, folders inside the shards."""

    without_picture: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    merged: int = 0
    names: tuple[str, ...] = ()
    folders: int = 0


@dataclass(frozen=True)
class ShardTable:
    """What the table says of the shards, in their order.

    Attributes:
        sizes: Samples of each, int64.
        stamps: The state that each had when it was indexed.
        captioned: Samples with captions of each, int64; tables of tar shards once counted empty captions too.
        label_counts: How many samples have each label, in the order in which labels first occur; None for no label.
        told: What is known of all of them together.
        hashes: Hashes of the whole index under some settings, by a hash of these settings.
        also: What else is known of arrow files (commands/index_arrow.py).
    """

    sizes: Indices
    stamps: Sequence[Stamp]
    captioned: Indices
    label_counts: Mapping[int | str | None, int]
    told: Told
    hashes: Mapping[str, Sequence[str]]
    also: Mapping[str, Any]


def table_of(shards: Sequence[Path], rules: object) -> Path:
    """Return the path of the table of exactly these shards, read by rules that `repr` tells apart; it need not exist."""
    said = repr(([shard.name for shard in shards], rules)).encode("utf-8", "backslashreplace")
    return shards[0].parent / f"{_PREFIX}{hashlib.blake2b(said, digest_size=6).hexdigest()}{SUFFIX}"


def require_one_folder(shards: Sequence[Path]) -> None:
    """Raise DataError where shards lie in several folders, and so have no place for their table."""
    if any(shard.parent != shards[0].parent for shard in shards):
        raise DataError("the shards lie in several folders", needed="one folder, which holds their table")


def read_table(shards: Sequence[Path], rules: object) -> ShardTable | None:
    """Read the table of shards; None where there is none.

    Raises:
        DataError: It is damaged.
    """
    path = table_of(shards, rules)
    if any(shard.parent != path.parent for shard in shards) or not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            content = parse_json((opened.metadata() or {})["table"])
        if content.pop("sha256") != _hash(content, arrays) or content["version"] != _VERSION:
            raise damaged(path, "its hash of itself does not fit")
        stamps = [Stamp(*pair) for pair in zip(arrays["bytes"].tolist(), arrays["mtime_ns"].tolist(), strict=True)]
        told = content["told"]
        return ShardTable(
            sizes=arrays["samples"],
            stamps=stamps,
            captioned=arrays["captioned"],
            label_counts=_label_counts(content["labels"], arrays),
            told=Told(told["without_picture"], told["ignored"], told["merged"], tuple(told["names"]), told["folders"]),
            hashes=content["hashes"],
            also=content.get("also", {}),
        )
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


def write_table(
    shards: Sequence[Path],
    rules: object,
    sidecars: Iterable[Sidecar],
    hashes: Mapping[str, Sequence[str]],
    count_captioned: Callable[[Sidecar], int],
    also: Mapping[str, Any] | None = None,
) -> Path:
    """Write the table of shards that all have a sidecar.

    Args:
        shards: All of them, in one folder.
        rules: As in `table_of`.
        sidecars: The sidecar of each.
        hashes: As in `ShardTable`.
        count_captioned: Returns how many samples of a sidecar have captions.
        also: As in `ShardTable`.

    Returns:
        Its path.

    Raises:
        DataError: Shards lie in several folders.
        DiskError: The disk refuses.
    """
    require_one_folder(shards)
    rows, counted, labels = [], [], dict[int | str, int]()
    ignored, names, folders, without, merged = Counter[str](), dict[str, None](), set[str](), 0, 0
    for number, sidecar in enumerate(sidecars):
        rows.append((sidecar.samples, sidecar.stamp.bytes, sidecar.stamp.mtime_ns, count_captioned(sidecar)))
        counted += [(number, labels.setdefault(label, len(labels)), count) for label, count in _counts(sidecar)]
        ignored.update(sidecar.told.get("ignored", {}))
        names.update(dict.fromkeys(sidecar.told.get("names", ())))
        folders.update(sidecar.told.get("folders", ()))
        without, merged = without + sidecar.told["without_picture"], merged + sidecar.told.get("merged", 0)
    arrays = dict(zip(("samples", "bytes", "mtime_ns", "captioned"), np.array(rows, dtype=np.int64).T.copy(), strict=True))
    columns = np.array(counted, dtype=np.int64).reshape(-1, 3).T
    arrays |= {
        "label_shard": columns[0].astype(np.int32),
        "label": columns[1].astype(np.int32),
        "label_count": columns[2].copy(),
    }
    told = {
        "without_picture": without,
        "ignored": dict(ignored),
        "merged": merged,
        "names": list(names),
        "folders": len(folders),
    }
    content = plain({"version": _VERSION, "labels": list(labels), "told": told, "hashes": dict(hashes)})
    content |= {"also": plain(dict(also))} if also else {}
    path = table_of(shards, rules)
    said = {"table": to_json({**content, "sha256": _hash(content, arrays)})}
    write_bytes(path, safetensors.numpy.save(arrays, said))
    return path


def tables_in(folder: Path) -> list[Path]:
    """Return the tables of shards that lie in a folder, whichever shards they are of."""
    return sorted(folder.glob(f"{_PREFIX}*{SUFFIX}"))


def told_of_set(table: Path) -> Mapping[str, Any]:
    """Return the `also` of a table; nothing of one that is damaged, or of tar shards."""
    try:
        with safetensors.safe_open(table, framework="numpy") as opened:
            also = parse_json((opened.metadata() or {})["table"]).get("also", {})
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, AttributeError):
        return {}
    return also if isinstance(also, Mapping) else {}


def _counts(sidecar: Sidecar) -> list[tuple[int | str, int]]:
    counts = np.bincount(sidecar["label"][sidecar["label"] >= 0], minlength=len(sidecar.labels)).tolist()
    return list(zip(sidecar.labels, counts, strict=True))


def _label_counts(labels: Sequence[int | str], arrays: Mapping[str, Any]) -> dict[int | str | None, int]:
    """Labels in the order in which they first occur are in the order of their numbers, as `write_table` gave them."""
    sums = np.bincount(arrays["label"], weights=arrays["label_count"], minlength=len(labels)).astype(np.int64).tolist()
    counts: dict[int | str | None, int] = dict(zip(labels, sums, strict=True))
    without = int(arrays["samples"].sum()) - sum(sums)
    return counts | ({None: without} if without else {})


def _hash(content: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    return hash_content([plain(content), {name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in sorted(arrays)}])
