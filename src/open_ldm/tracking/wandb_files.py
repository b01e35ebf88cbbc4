"""The rows that W&B has written to its files on this machine: what a killed process had sent but not written is not there.

A file begins with ":W&B", two bytes and a version. Then come blocks of 32 KiB as in LevelDB's log: chunks of a checksum
(4 bytes), a length (2, little-endian), a kind (1: whole, 2: first, 3: middle, 4: last) and the content; a record is one
`Record` of protobuf.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.extras import need
from open_ldm.core.plain_data import parse_json

_FILE_HEADER_BYTES = 7
_CHUNK = struct.Struct("<IHB")
_BLOCK_BYTES = 32 << 10
_PICTURE = ".path"
"""A picture is a mapping, and this entry of it says that there is one."""
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def last_steps(folder: Path, run_id: str, clock: str) -> tuple[int, dict[str, int]]:
    """Read how far the files of a run below `folder` go.

    Args:
        folder: Where W&B keeps its folders.
        run_id: Of the run.
        clock: The value of a row that says where it belongs on a curve.

    Returns:
        The largest step of a row, -1 where there is none; and the largest clock of each curve, by name.
    """
    last, curves = -1, dict[str, int]()
    for step, values in rows(folder, run_id):
        last, at = max(last, step), values.get(clock)
        if isinstance(at, int):
            names = {name.removesuffix(_PICTURE) for name in values}
            curves |= {name: max(curves.get(name, -1), at) for name in names}
    return last, curves


def rows(folder: Path, run_id: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read the rows of a run, in the order of its processes: (step, values by name), of which pictures are mappings."""
    messages = need("wandb.proto.wandb_internal_pb2", extra="track")
    for file in sorted(folder.glob(f"*run-*-{run_id}/run-{run_id}.wandb")):
        for content in _records(file.read_bytes()):
            record = messages.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or ".".join(item.nested_key): parse_json(item.value_json) for item in record.history.item}
                yield int(record.history.step.num), items


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file, up to the first one that is not there as a whole."""
    place, begun = _FILE_HEADER_BYTES, b""
    while place < len(content):
        remaining = _BLOCK_BYTES - place % _BLOCK_BYTES
        if remaining < _CHUNK.size:
            place += remaining
            continue
        if place + _CHUNK.size > len(content):
            return
        _, length, kind = _CHUNK.unpack_from(content, place)
        place += _CHUNK.size
        chunk, place = content[place : place + length], place + length
        if len(chunk) < length or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            return
        begun = chunk if kind in (_WHOLE, _FIRST) else begun + chunk
        if kind in (_WHOLE, _LAST):
            yield begun
