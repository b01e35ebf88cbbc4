"""The index of a tar shard, which says where each sample is. It is read from the headers and cached between runs.

Which members are one sample is decided in shard_keys.py. Nothing is extracted. The cache is in the user's cache folder, one
JSON file per shard. It is used only for the path,
size and times of change that it was made for; one whose hash of itself does not fit is made again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from open_ldm.core.collector import collector_off
from open_ldm.core.errors import DataError, DiskError, OpenLdmError
from open_ldm.core.files import read_at, write_bytes
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json, plain, to_json
from open_ldm.core.read_ahead import ReadAhead
from open_ldm.core.user_cache import user_cache
from open_ldm.data import formats
from open_ldm.data.columns import flat
from open_ldm.data.sample import printable
from open_ldm.sources.metadata import label_from, original_size_from
from open_ldm.sources.shard_captions import has_caption, is_caption
from open_ldm.sources.shard_keys import PICTURE, Members, Span
from open_ldm.sources.tar_members import read_members

_VERSION = 6
_BLOCK = 512
_TAIL = 1 << 20
MOST_JSON_BYTES = 1 << 20
_NEEDLESS, _NEEDLESS_FIRST = ("//", "/./"), ("./", "/")
_SPANS = attrgetter("offset", "size", "text_offset", "text_size", "json_offset", "json_size")


class ShardEntry(NamedTuple):
    """One sample: where its picture, its captions and its .json are (`size` 0 = none), and what .cls and .json say.

    `label` is a number from .cls, or a number or name from .json. `original_height` and `original_width` are 0 where unknown.
    `text_hash` has 63 bits of a hash of the captions, and `captioned` is whether one of them is not empty. `fault` is what is
    wrong with .cls or .json; empty when nothing is.
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
    json_offset: int = 0
    json_size: int = 0
    captioned: bool = False


@dataclass(frozen=True)
class ShardIndex:
    """Samples of one shard in the order of their pictures, and what is not used.

    Attributes:
        entries: The samples.
        without_picture: Number of keys that have no picture.
        ignored: Number of members that belong to no sample, by suffix.
        merged: As in `shard_keys.Members`.
        names: Names of the values in .json, in the order in which they first occur.
    """

    entries: tuple[ShardEntry, ...]
    without_picture: int
    ignored: Mapping[str, int] = field(default_factory=dict)
    merged: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardRules:
    """How members are read: suffixes of pictures in lower case, the one `picture` of each sample, and names of .json values."""

    suffixes: tuple[str, ...] = field(default_factory=formats.suffixes)
    picture: str | None = None
    columns: tuple[tuple[str, str], ...] = ()

    def column(self, role: str) -> str:
        """Return the name in a .json of text, label, original_height or original_width."""
        return dict(self.columns).get(role, role)


def index_shard(path: Path, rules: ShardRules | None = None, *, remember: bool = True) -> ShardIndex:
    """Read the index of one shard, from the cache or from its headers.

    Args:
        path: The shard.
        rules: How its members are read.
        remember: Whether an index that had to be read goes into the cache.

    Raises:
        DataError: The shard is not an uncompressed tar file, is cut off or damaged, or has two pictures for one key.
    """
    rules = rules or ShardRules()
    status = path.stat()
    location = str(path.resolve())
    changed = {"mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
    stamp = {"version": _VERSION, "path": location, "bytes": status.st_size, **changed}
    named = os.fsencode(location) + (b"" if rules == ShardRules() else repr(rules).encode("utf-8", "backslashreplace"))
    cache = user_cache("shards") / f"{hashlib.blake2b(named, digest_size=12).hexdigest()}.json"
    known = _from_cache(cache, stamp)
    if known is not None:
        return known
    index = _read_headers(path, rules)
    if not remember:
        return index
    with suppress(DiskError):
        rows = [list(entry) for entry in index.entries]
        rest = {"without_picture": index.without_picture, "ignored": dict(index.ignored), "merged": index.merged}
        rest |= {"names": list(index.names)}
        content = {**stamp, **rest, "rows": rows}
        write_bytes(cache, to_json({**content, "sha256": hash_content(plain(content))}).encode())
    return index


def _from_cache(path: Path, stamp: Mapping[str, Any]) -> ShardIndex | None:
    """Read an index that was remembered; None unless it is of this state of the shard, byte for byte as it was written."""
    try:
        content = parse_json(path.read_bytes(), every_value=False)
        if content.pop("sha256") != hash_content(content) or any(content[name] != value for name, value in stamp.items()):
            return None
        entries = tuple(itertools.starmap(ShardEntry, content["rows"]))
        ignored = {str(suffix): int(count) for suffix, count in content["ignored"].items()}
        names = tuple(str(name) for name in content["names"])
        index = ShardIndex(entries, int(content["without_picture"]), ignored, int(content["merged"]), names)
        return index if _is_inside(entries, stamp["bytes"]) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _is_inside(entries: Sequence[ShardEntry], shard_bytes: int) -> bool:
    """Whether all that entries say of places lies inside the shard."""
    spans = np.array(list(map(_SPANS, entries)), dtype=np.int64).reshape(-1, 3, 2)
    return bool((spans >= 0).all() and (spans.sum(axis=2) <= shard_bytes).all())


@collector_off()
def _read_headers(path: Path, rules: ShardRules) -> ShardIndex:
    members = Members(path, rules.suffixes, rules.picture)
    where = printable(str(path))
    try:
        with path.open("rb") as file:
            stored = read_members(path, file.fileno(), os.fstat(file.fileno()).st_size)
            for name, offset, size, is_file in stored.found:
                if name[:1] in ("", ".", "/") or "/" in name:
                    name = _needed(name)
                    if not name:
                        continue
                if is_file:
                    members.add(name, Span(offset, size))
                else:
                    members.ignored["links"] += 1
            _check_end(file.fileno(), stored.end, where)
            members.join()
            kept = members.by_key
            names: dict[str, None] = {}
            ahead = ReadAhead(file.fileno())
            entries = [_entry(key, spans, ahead, rules, names) for key, spans in kept.items() if PICTURE in spans]
    except tarfile.TarError as error:
        reason = "cut off" if "unexpected end" in str(error) else str(error)
        raise DataError(f"shard {where} cannot be read as tar: {reason}", needed="a complete, uncompressed tar file") from error
    except OSError as error:
        raise DataError(f"shard {where} cannot be read: {error.strerror or error}") from error
    return ShardIndex(tuple(entries), len(kept) - len(entries), dict(members.ignored), members.merged, tuple(names))


def _needed(name: str) -> str:
    """Return a member's name without needless slashes; empty for a hidden file, which is left out."""
    if any(part in name for part in _NEEDLESS) or name.startswith(_NEEDLESS_FIRST):
        name = str(PurePosixPath(name))
    return "" if name.startswith(".", name.rfind("/") + 1) else name


def _check_end(handle: int, end: int, where: str) -> None:
    """Raise DataError unless the archive ends at `end` with zeros and nothing comes after them.

    Without this check a shard cut between two members, one with a broken header inside, and one with zeros over a header would
    pass for a shorter one.
    """
    at = end
    while block := read_at(handle, _TAIL, at):
        if block.strip(b"\0"):
            first = at + len(block) - len(block.lstrip(b"\0"))
            behind = f", with more behind it at byte {first:,}" if first >= end + _BLOCK else ""
            raise DataError(f"shard {where} is truncated or damaged at byte {end:,}{behind}", fix="download or write it again")
        at += len(block)
    if at < end + _BLOCK:
        raise DataError(f"shard {where} is truncated or damaged at byte {end:,}", fix="download or write it again")


def _entry(key: str, spans: Mapping[str, Span], file: ReadAhead, rules: ShardRules, names: dict[str, None]) -> ShardEntry:
    """Return the entry of a key; the names of the values in its .json are added to `names`."""
    picture, json_span = spans[PICTURE], spans.get(".json", _NOTHING)
    details = _details(file, json_span, rules) if ".json" in spans else _NO_DETAILS
    if details.names:
        names.update(dict.fromkeys(details.names))
    label = details.label
    if ".cls" in spans:
        label = _class(file.read(min(spans[".cls"].size, 64), spans[".cls"].offset))
        if label is None:
            details = _Details(fault="unreadable .cls")
    own = spans.get(".txt") or spans.get(".caption")
    text = own or (json_span if details.text_hash else _NOTHING)
    text_hash, captioned = details.text_hash, details.captioned
    if own is not None:
        content = file.read(own.size, own.offset)
        text_hash, captioned = _short_hash(content), has_caption(content, None)
    return ShardEntry(
        key=key,
        offset=picture.offset,
        size=picture.size,
        text_offset=text.offset,
        text_size=text.size,
        text_is_json=own is None and details.text_hash > 0,
        text_hash=text_hash,
        label=label,
        original_height=details.original_size[0],
        original_width=details.original_size[1],
        fault=details.fault,
        json_offset=json_span.offset,
        json_size=json_span.size,
        captioned=captioned,
    )


@dataclass(frozen=True)
class _Details:
    label: int | str | None = None
    original_size: tuple[int, int] = (0, 0)
    text_hash: int = 0
    captioned: bool = False
    fault: str = ""
    names: tuple[str, ...] = ()


_NOTHING, _NO_DETAILS = Span(0, 0), _Details()


def _details(file: ReadAhead, span: Span, rules: ShardRules) -> _Details:
    try:
        content = parse_json(file.read(min(span.size, MOST_JSON_BYTES), span.offset), finite=False)
        if not isinstance(content, dict):
            return _Details(fault="unreadable .json")
        whole = flat(content)
        content = {**whole, **content}
        text = content.get(rules.column("text"))
        return _Details(
            label=label_from(content.get(rules.column("label")), ""),
            original_size=original_size_from(content, "", rules.column) or (0, 0),
            text_hash=0 if text is None else _short_hash(json.dumps(text).encode()),
            captioned=is_caption(text),
            names=tuple(whole),
        )
    except (ValueError, RecursionError, OpenLdmError):
        return _Details(fault="unreadable .json")


def _class(content: bytes) -> int | None:
    """Return the number in a .cls member, None where there is none."""
    try:
        return int(content.decode("ascii").strip())
    except ValueError:
        return None


def _short_hash(content: bytes) -> int:
    """Return a hash that is never 0, so that 0 can mean that there is nothing."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) >> 1 or 1
