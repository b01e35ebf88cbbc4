"""The index of a tar shard, which says where each sample is. It is read from the headers and cached between runs.

Members belong together when they share a name up to the last dot: KEY.jpg (or another suffix of pictures), KEY.cls, KEY.txt,
KEY.json. Nothing is extracted. The cache is in the user's cache folder, one JSON file per shard. It is used only for the path,
size and times of change that it was made for; a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from open_ldm.core.errors import DataError, DiskError, OpenLdmError
from open_ldm.core.files import read_at, write_bytes
from open_ldm.data.sample import printable
from open_ldm.data.sources.files import user_cache
from open_ldm.data.sources.metadata import label_from, original_size_from

RGB_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes of pictures, unless a source reads other channels."""

_VERSION = 2
_BLOCK = 512
_MOST_JSON_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One sample: where its picture and its captions are (`size` 0 = none), and what .cls and .json say.

    `label` is a number from .cls, or a number or name from .json. `original_height` and `original_width` are 0 where unknown.
    `text_hash` has 63 bits of a hash of the captions. `fault` is what is wrong with .cls or .json; empty when nothing is.
    """

    key: str
    offset: int
    size: int
    text_offset: int = 0
    text_size: int = 0
    text_is_json: bool = False
    text_hash: int = 0
    label: int | str | None = None
    original_height: int = 0
    original_width: int = 0
    fault: str = ""


@dataclass(frozen=True)
class ShardIndex:
    """Samples of one shard in the order of their pictures, and the number of keys that have no picture."""

    entries: tuple[ShardEntry, ...]
    without_picture: int


@dataclass(frozen=True)
class _Span:
    offset: int
    size: int


def index_shard(path: Path, suffixes: tuple[str, ...] = RGB_SUFFIXES) -> ShardIndex:
    """Read the index of one shard, from the cache or from its headers.

    Args:
        path: The shard.
        suffixes: Suffixes of pictures, in lower case.

    Raises:
        DataError: The shard is not an uncompressed tar file, is cut off, or has two pictures for one key.
    """
    status = path.stat()
    location = str(path.resolve())
    changed = {"mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
    stamp = {"version": _VERSION, "path": location, "bytes": status.st_size, **changed}
    named = os.fsencode(location) + (b"" if suffixes == RGB_SUFFIXES else repr(suffixes).encode())
    cache = user_cache("shards") / f"{hashlib.blake2b(named, digest_size=12).hexdigest()}.json"
    known = _from_cache(cache, stamp)
    if known is not None:
        return known
    index = _read_headers(path, suffixes)
    with suppress(DiskError):
        rows = [list(asdict(entry).values()) for entry in index.entries]
        write_bytes(cache, json.dumps({**stamp, "without_picture": index.without_picture, "rows": rows}).encode())
    return index


def _from_cache(path: Path, stamp: Mapping[str, Any]) -> ShardIndex | None:
    try:
        content = json.loads(path.read_bytes())
        if any(content[name] != value for name, value in stamp.items()):
            return None
        entries = tuple(ShardEntry(*row) for row in content["rows"])
        whole = all(_is_inside(entry, stamp["bytes"]) for entry in entries)
        return ShardIndex(entries, int(content["without_picture"])) if whole else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _is_inside(entry: ShardEntry, shard_bytes: int) -> bool:
    if not all(_fits(getattr(entry, item.name), str(item.type)) for item in fields(entry)):
        return False
    ends = (entry.offset + entry.size, entry.text_offset + entry.text_size)
    return min(entry.offset, entry.size, entry.text_offset, entry.text_size) >= 0 and max(ends) <= shard_bytes


def _fits(value: Any, annotation: str) -> bool:
    names = {"int": int, "str": str, "bool": bool, "None": type(None)}
    return type(value) in {names[part] for part in annotation.split(" | ")}


def _read_headers(path: Path, suffixes: tuple[str, ...]) -> ShardIndex:
    members: dict[str, dict[str, _Span]] = {}
    where = printable(str(path))
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                name = PurePosixPath(member.name)
                if member.isreg() and name.name and not name.name.startswith("."):
                    span = _Span(member.offset_data, member.size)
                    suffix = name.suffix.lower()
                    _add(members, str(name.with_suffix("")), "picture" if suffix in suffixes else suffix, span, path)
            end = archive.offset
            # Without this check, a shard cut between two members, or with a broken header inside, would pass for a shorter one.
            if read_at(file.fileno(), _BLOCK, end) != bytes(_BLOCK):
                raise DataError(f"shard {where} is truncated or damaged at byte {end:,}", fix="download or write it again")
            entries = [_entry(key, spans, file.fileno()) for key, spans in members.items() if "picture" in spans]
    except tarfile.TarError as error:
        reason = "cut off" if "unexpected end" in str(error) else str(error)
        raise DataError(f"shard {where} cannot be read as tar: {reason}", needed="a complete, uncompressed tar file") from error
    except OSError as error:
        raise DataError(f"shard {where} cannot be read: {error.strerror or error}") from error
    return ShardIndex(tuple(entries), len(members) - len(entries))


def _add(members: dict[str, dict[str, _Span]], key: str, role: str, span: _Span, path: Path) -> None:
    if role not in ("picture", ".cls", ".txt", ".json"):
        return
    spans = members.setdefault(key, {})
    if role in spans:
        what = "pictures" if role == "picture" else f"{role} members"
        raise DataError(printable(f"shard {path} contains two {what} for key {key}"), needed="one of each per key")
    spans[role] = span


def _entry(key: str, spans: Mapping[str, _Span], handle: int) -> ShardEntry:
    picture = spans["picture"]
    details = _Details()
    if ".json" in spans:
        details = _details(handle, spans[".json"])
    if ".cls" in spans:
        details = _with_class(details, read_at(handle, min(spans[".cls"].size, 64), spans[".cls"].offset))
    text = spans.get(".txt") or (spans[".json"] if details.text_hash else _Span(0, 0))
    text_hash = _short_hash(read_at(handle, text.size, text.offset)) if ".txt" in spans else details.text_hash
    return ShardEntry(
        key=key,
        offset=picture.offset,
        size=picture.size,
        text_offset=text.offset,
        text_size=text.size,
        text_is_json=".txt" not in spans and details.text_hash > 0,
        text_hash=text_hash,
        label=details.label,
        original_height=details.original_size[0],
        original_width=details.original_size[1],
        fault=details.fault,
    )


@dataclass(frozen=True)
class _Details:
    label: int | str | None = None
    original_size: tuple[int, int] = (0, 0)
    text_hash: int = 0
    fault: str = ""


def _details(handle: int, span: _Span) -> _Details:
    try:
        content = json.loads(read_at(handle, min(span.size, _MOST_JSON_BYTES), span.offset))
        if not isinstance(content, dict):
            return _Details(fault="unreadable .json")
        return _Details(
            label=label_from(content.get("label"), ""),
            original_size=original_size_from(content, "") or (0, 0),
            text_hash=0 if (text := content.get("text")) is None else _short_hash(json.dumps(text).encode()),
        )
    except (ValueError, RecursionError, OpenLdmError):
        return _Details(fault="unreadable .json")


def _with_class(details: _Details, content: bytes) -> _Details:
    try:
        label = int(content.decode("ascii").strip())
    except ValueError:
        return _Details(fault="unreadable .cls")
    return _Details(label, details.original_size, details.text_hash, details.fault)


def _short_hash(content: bytes) -> int:
    """Return a hash that is never 0, so that 0 can mean that there is nothing."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1 or 1
