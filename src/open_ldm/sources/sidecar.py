"""FILE.index.safetensors: the index of one file of samples, beside it, as named columns that are mapped and not loaded.

A sidecar belongs to a file of one size and one time of change, and to one way of reading it (its rules). Each column has a hash
of its own, which is compared when the column is first used. Tar shards (shard_sidecar.py) and arrow files (arrow_sidecar.py)
have columns of their own beside these:

    label           int32 [n]       number among the sidecar's `labels`; -1 for none
    text_size       int64 [n]       bytes of the captions; 0 for none
    hold_out        int64 [n]       the number that a hold-out of seed 0 compares with its share
    digest          uint8 [n, 16]   BLAKE2b of the picture's bytes
    keys            uint8           keys in their bytes, one after the other
    keys_end        int64 [n]       where each of them ends
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from open_ldm.core.errors import DataError
from open_ldm.core.files import write_bytes
from open_ldm.core.plain_data import parse_json, to_json
from open_ldm.core.seeds import key as number_of

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIX = ".index.safetensors"
_VERSION = 1


@dataclass(frozen=True)
class Stamp:
    """The state of a file that a sidecar belongs to: its size in bytes and its time of change in nanoseconds."""

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
        stamp: The state of the file that it belongs to.
        rules: How the file's samples are read, as plain data.
        samples: Number of samples.
        labels: The distinct labels, by their numbers in the column `label`.
        faults: What is wrong with samples that cannot be used, by their number.
        told: Everything else that is known of the file.
    """

    path: Path
    stamp: Stamp
    rules: Any
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
        """Return one row of a column of bytes, such as keys."""
        ends = self[f"{column}_end"]
        start = int(ends[row - 1]) if row else 0
        return self[column][start : int(ends[row])].tobytes()

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        return self.bytes_of("keys", row).decode("utf-8", "surrogateescape")


def map_sidecar(path: Path) -> Sidecar:
    """Map a sidecar; the file that it belongs to is not looked at.

    Raises:
        FileNotFoundError: There is none.
        DataError: It is damaged.
    """
    path.stat()
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            content = parse_json((opened.metadata() or {})["index"])
            arrays = {name: opened.get_tensor(name).numpy() for name in opened.keys()}  # noqa: SIM118 - no mapping
        if content["version"] != _VERSION:
            raise damaged(path, f"version {content['version']}")
        return Sidecar(
            path=path,
            stamp=Stamp(int(content["bytes"]), int(content["mtime_ns"])),
            rules=content["rules"],
            samples=len(arrays["label"]),
            labels=tuple(content["labels"]),
            faults={int(row): str(fault) for row, fault in content["faults"].items()},
            told=content["told"],
            _arrays=arrays,
            _hashes=content["hashes"],
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class SidecarContent:
    """What a sidecar is written from; see `Sidecar`. `labels` has one entry a sample; the column `label` follows from it."""

    columns: Mapping[str, Array]
    labels: Sequence[int | str | None]
    faults: Mapping[int, str]
    told: Mapping[str, Any]


def save_sidecar(path: Path, stamp: Stamp, rules: Any, content: SidecarContent) -> None:
    """Write a sidecar. Raises DiskError where the disk refuses."""
    labels = list(dict.fromkeys(label for label in content.labels if label is not None))
    numbers: dict[int | str | None, int] = {label: number for number, label in enumerate(labels)} | {None: -1}
    columns = {**content.columns, "label": np.array([numbers[label] for label in content.labels], dtype=np.int32)}
    said = {
        "version": _VERSION,
        "bytes": stamp.bytes,
        "mtime_ns": stamp.mtime_ns,
        "rules": rules,
        "labels": labels,
        "faults": {str(row): fault for row, fault in content.faults.items()},
        "told": dict(content.told),
        "hashes": {name: _hash(column) for name, column in columns.items()},
    }
    write_bytes(path, safetensors.numpy.save(columns, {"index": to_json(said)}))


def bytes_columns(name: str, parts: Sequence[bytes]) -> dict[str, Array]:
    """Return the two columns that hold bytes of several lengths: all of them joined, and where each ends."""
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return {name: np.frombuffer(b"".join(parts), dtype=np.uint8), f"{name}_end": ends}


def beside(file: Path, rules: Any | None) -> Path:
    """Return the path of a file's sidecar; a hash of the rules, as plain data, stands in its name, none where they are None."""
    mark = "" if rules is None else f".{hashlib.blake2b(to_json(rules).encode(), digest_size=4).hexdigest()}"
    return file.with_name(file.name.removesuffix(file.suffix) + mark + SUFFIX)


def hold_out_number(seed: int, sample_id: str) -> int:
    """Return the number below 2**63 that a hold-out compares with its share."""
    return number_of(seed, f"holdout {sample_id}")


def damaged(path: Path, what: str) -> DataError:
    """Return the error for a sidecar or a table whose bytes are not those that were written."""
    return DataError(f"{path} is damaged ({what})", fix=f"rm {path}, then ldm data index")


def _hash(array: Array) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()
