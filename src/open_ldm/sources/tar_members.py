"""The members of an uncompressed tar file, read from its headers.

Plain headers, with the long names of pax and GNU, are read here, several times as fast as by tarfile. At the first header
that is anything else, and at any fault, tarfile reads the whole file again: what it says counts.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

from open_ldm.core.read_ahead import ReadAhead

BLOCK = 512
_FILES, _LINKS, _FOLDER, _PAX, _LONG_NAME = b"0\0", b"12", b"5", b"x", b"L"
_MOST_NAME_BYTES = 1 << 16


class Member(NamedTuple):
    """One member: its name, where its content is, and whether it is a file; otherwise it is a link."""

    name: str
    offset: int
    size: int
    is_file: bool


class Members(NamedTuple):
    """The files and links of an archive in their order, and the offset behind the last of all members."""

    found: list[Member]
    end: int


class _Unusual(Exception):  # noqa: N818 - it describes a header, not a fault
    """A header that is left to tarfile."""


def read_members(path: Path, handle: int, size: int) -> Members:
    """Read all headers of an archive.

    Args:
        path: The archive, which tarfile opens if it must.
        handle: The same, open for reading.
        size: Its length in bytes.

    Raises:
        tarfile.TarError: It is no uncompressed tar file, or is cut off.
        OSError: It cannot be read.
    """
    try:
        return _plain(ReadAhead(handle), size)
    except _Unusual:
        return _by_tarfile(path)


def _plain(file: ReadAhead, size: int) -> Members:
    found: list[Member] = []
    offset, long_name, long_size = 0, None, None
    while True:
        header = file.read(BLOCK, offset)
        if len(header) < BLOCK:
            raise _Unusual
        if header[0] == 0 and not header.strip(b"\0"):
            if long_name is not None or offset == 0:
                raise _Unusual
            return Members(found, offset)
        kind, length = header[156:157], _checked_size(header)
        content = offset + BLOCK
        if kind in _PAX or kind in _LONG_NAME:
            if long_name is not None or length > _MOST_NAME_BYTES:
                raise _Unusual
            stated = file.read(length, content)
            long_name, long_size = _pax(stated) if kind in _PAX else (_text(stated), None)
            offset = content + _whole_blocks(length)
            continue
        name = long_name or _name(header)
        length = length if long_size is None else long_size
        if kind in _FILES and not name.endswith("/"):
            offset = content + _whole_blocks(length)
            found.append(Member(name, content, length, True))
        elif kind in _LINKS:
            offset = content
            found.append(Member(name, content, 0, False))
        elif kind in _FOLDER:
            offset = content
        else:
            raise _Unusual
        if offset > size:
            raise _Unusual
        long_name = long_size = None


def _checked_size(header: bytes) -> int:
    """Return the size that a header states, once its checksum has been compared."""
    stated, size = header[148:156].strip(b" \0"), header[124:136].strip(b" \0")
    try:
        # The checksum adds up all bytes, its own counted as spaces.
        if int(stated, 8) != _sum(header[:148]) + 8 * 32 + _sum(header[156:412]) + _sum(header[412:]):
            raise _Unusual
        return int(size or b"0", 8)
    except ValueError:
        raise _Unusual from None


def _sum(part: bytes) -> int:
    """Return the sum of at most 256 bytes: the lower half of Adler-32 is one more, modulo 65,521."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _name(header: bytes) -> str:
    prefix = header[345:500]
    name = _text(header[:100])
    return name if prefix[0] == 0 else f"{_text(prefix)}/{name}"


def _text(stored: bytes) -> str:
    return stored.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(stored: bytes) -> tuple[str, int | None]:
    """Return the name, empty for none, and the size that the records of a pax header state: each is 'LENGTH KEY=VALUE' and a
    newline."""
    name, size = "", None
    while stored.strip(b"\0"):
        length, space, _ = stored.partition(b" ")
        if not space or not length.isdigit() or not len(length) + 2 < int(length) <= len(stored):
            raise _Unusual
        key, equal, value = stored[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equal or key.startswith(b"GNU.sparse") or key == b"hdrcharset":
            raise _Unusual
        try:
            if key == b"path":
                name = value.decode("utf-8").rstrip("/")
            elif key == b"size":
                size = int(value)
        except ValueError:
            raise _Unusual from None
        stored = stored[int(length) :]
    return name, size


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _by_tarfile(path: Path) -> Members:
    found: list[Member] = []
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            if member.isreg():
                found.append(Member(member.name, member.offset_data, member.size, True))
            elif member.islnk() or member.issym():
                found.append(Member(member.name, member.offset_data, 0, False))
        return Members(found, archive.offset)
