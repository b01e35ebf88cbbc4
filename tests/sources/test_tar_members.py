"""Headers read here say what tarfile says, and what is unusual or damaged is left to it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from open_ldm.sources import tar_members
from open_ldm.sources.tar_members import Members, read_members

LONG = "folder/" + "name " * 40
NAMES = ["a.jpg", "deep/er/b.png", "./c.txt", "ünï.jpg", f"{LONG}.png", "x" * 99 + ".j", "p" * 150 + "/q.jpg"]


def read(path: Path) -> Members:
    with path.open("rb") as file:
        return read_members(path, file.fileno(), path.stat().st_size)


def write(path: Path, form: int, *, names: list[str] = NAMES, mtime: float = 0) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 300 * number, mtime  # type: ignore[assignment]  # pax stores fractions
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        archive.addfile(link)
    return path


@pytest.mark.parametrize(("form", "mtime"), [(tarfile.GNU_FORMAT, 0), (tarfile.PAX_FORMAT, 0), (tarfile.PAX_FORMAT, 1.5)])
def test_plain_headers_and_long_names_are_those_of_tarfile(
    form: int, mtime: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tar", form, mtime=mtime)
    wanted = tar_members._by_tarfile(path)
    monkeypatch.setattr(tar_members, "_by_tarfile", lambda path: pytest.fail("tarfile was not needed"))
    found = read(path)
    assert found == wanted and len(found.found) == len(NAMES) + 1
    assert [member.name for member in found.found][:4] == ["a.jpg", "deep/er/b.png", "./c.txt", "ünï.jpg"]
    content = path.read_bytes()
    assert all(
        content[m.offset : m.offset + m.size] == bytes([number]) * m.size for number, m in enumerate(found.found) if m.is_file
    )


def test_ustar_prefixes_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarfile.USTAR_FORMAT, names=["a.jpg", "p" * 120 + "/q.jpg"])
    assert read(path).found[1].name == "p" * 120 + "/q.jpg"


@pytest.mark.parametrize("harm", ["checksum", "cut", "kind", "empty", "words"])
def test_what_is_not_plain_is_left_to_tarfile(harm: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarfile.GNU_FORMAT, names=["a.jpg", "b.jpg", "c.jpg"])
    content = bytearray(path.read_bytes())
    match harm:
        case "checksum":
            content[0] ^= 1
        case "cut":
            del content[2100:]
        case "kind":
            content[156] = ord("7")
        case "empty":
            content.clear()
        case "words":
            content[:] = b"no archive at all " * 100
    path.write_bytes(content)
    try:
        wanted: object = tar_members._by_tarfile(path)
    except tarfile.TarError as error:
        wanted = str(error)
    try:
        found: object = read(path)
    except tarfile.TarError as error:
        found = str(error)
    assert found == wanted
