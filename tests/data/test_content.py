"""What names the content of pictures: every byte, wherever they lie, and no byte read twice without need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.core.user_cache import user_cache
from open_ldm.data.content import content_hash, read_fingerprint
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.data.sample import Source
from open_ldm.sources import digests, file_states
from open_ldm.sources.folder import FolderConfig, FolderSource
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shards import ShardsConfig, ShardsSource
from open_ldm.sources.shrunk import ShrunkConfig

Tar = Callable[..., Path]


def bitmap(red: int) -> Image.Image:
    """All of these have files of the same size."""
    return Image.fromarray(np.full((9, 7, 3), (red, 2, 3), np.uint8))


def folder_of(path: Path, kind: str = "bmp", count: int = 5) -> Path:
    path.mkdir()
    for number in range(count):
        bitmap(number).save(path / f"{number}.{kind}")
    return path


def opened(path: Path) -> Source:
    return FolderConfig(path=path).open()


def put_back(file: Path, status: os.stat_result) -> None:
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("kind", ["bmp", "tiff"])
def test_other_pixels_under_the_same_name_size_and_time_are_other_pictures(kind: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", kind)
    before, marked, index = content_hash(opened(folder)), read_fingerprint(opened(folder)), opened(folder).hashes
    victim = folder / f"3.{kind}"
    status = victim.stat()
    bitmap(77).save(victim)
    put_back(victim, status)
    assert (victim.stat().st_size, victim.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert content_hash(opened(folder)) != before
    assert read_fingerprint(opened(folder)) != marked
    assert opened(folder).hashes == index
    bitmap(3).save(victim)
    assert (content_hash(opened(folder)), read_fingerprint(opened(folder))) == (before, marked)


def test_a_copy_elsewhere_is_the_same_and_only_the_asked_for_count(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    copy = shutil.copytree(folder, tmp_path / "b")
    assert content_hash(opened(copy)) == content_hash(opened(folder))
    first = content_hash(opened(copy), [0, 1])
    assert len({first, content_hash(opened(copy), [1, 0]), content_hash(opened(copy), [0]), content_hash(opened(copy))}) == 4
    bitmap(9).save(copy / "4.bmp")
    assert content_hash(opened(copy), [0, 1]) == first


def test_parts_and_shrunk_pictures_follow_the_pictures_behind_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", count=12)

    def hashes() -> list[str]:
        inner = FolderConfig(path=folder)
        parts = [select_part(inner.open(), HoldoutConfig(share=0.5), name) for name in ("train", "held_out")]
        return [content_hash(source) for source in (*parts, ShrunkConfig(of=inner, short_side_px=(4, 6)).open())]

    before = hashes()
    held_out = select_part(opened(folder), HoldoutConfig(share=0.5), "held_out")
    bitmap(99).save(folder / held_out.sample_id(0))
    after = hashes()
    assert after[0] == before[0] and after[1] != before[1] and after[2] != before[2]
    assert content_hash(ShrunkConfig(of=FolderConfig(path=folder), short_side_px=(4, 7)).open()) != after[2]


def test_shards_are_known_by_members_not_by_what_lies_between(tmp_path: Path, tar: Tar, encode: Any) -> None:
    def opened_with(red: int, caption: str, as_json: bool = False) -> Source:
        text = ("0.json", b'{"text": "%s"}' % caption.encode()) if as_json else ("0.txt", caption.encode())
        members = [text, ("0.png", b""), *((f"{n}.png", encode(bitmap(n), "PNG", compress_level=0)) for n in (1, 2))]
        members[1] = ("0.png", encode(bitmap(red), "PNG", compress_level=0))
        tar(tmp_path / "x.tar", members)
        return ShardsConfig(path=str(tmp_path)).open()

    first = opened_with(50, "short")
    before, hashes = content_hash(first), first.hashes
    longer = opened_with(50, "much longer " * 99)
    assert content_hash(longer) == before and longer.hashes.captions != hashes.captions
    for as_json in (False, True):
        one, other = (opened_with(50, text, as_json).hashes.captions for text in ("short", "shirt"))
        assert one != other
    assert content_hash(opened_with(51, "short")) != before
    assert content_hash(opened_with(50, "short")) == before


def test_states_of_many_files_are_compared_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder_of(tmp_path / "a")
    wanted = content_hash(opened(place))
    monkeypatch.setattr(file_states, "FEW", 0)
    monkeypatch.setattr(file_states, "SETTLED_SECONDS", -3600.0)
    monkeypatch.setattr(file_states, "_AT_ONCE", 2)
    assert opened(place).stored_digests(np.arange(5)) is None and content_hash(opened(place)) == wanted
    one_by_one = FolderSource.digests
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "digests", lambda *given: pytest.fail("files were looked at one by one"))
        assert content_hash(opened(place)) == wanted
        assert opened(place).stored_digests(np.array([3])) == one_by_one(opened(place), [3], lambda done: None)[0]
    status = (place / "3.bmp").stat()
    bitmap(77).save(place / "3.bmp")
    os.utime(place / "3.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time of change of before
    changed = content_hash(opened(place))
    assert changed != wanted and content_hash(opened(place)) == changed
    (place / "9.bmp").write_bytes((place / "0.bmp").read_bytes())
    assert opened(place).stored_digests(np.arange(6)) is None, "another list of names"
    (stored,) = (user_cache("digests")).glob("*.states.safetensors")
    content_hash(opened(place))
    content = stored.read_bytes()
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert opened(place).stored_digests(np.arange(6)) is None, "damaged"


def test_states_of_shards_are_compared_at_once(tmp_path: Path, tar: Tar, encode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("FEW", file_states), ("SETTLED_SECONDS", file_states), ("SETTLED_SECONDS", digests)):
        monkeypatch.setattr(module, name, 0 if name == "FEW" else -3600.0)

    def write(number: int, reds: tuple[int, int]) -> Path:
        kinds = enumerate(reds)
        pictures = {f"{n}.{kind}.png": encode(bitmap(red + k)) for n, red in kinds for k, kind in enumerate(("photo", "mask"))}
        return tar(tmp_path / f"{number}.tar", {**pictures, "0.cls": b"1", "1.cls": b"0"})

    def hashed(picture: str = "photo.png", indices: list[int] | None = None) -> str:
        return content_hash(ShardsConfig(path=str(tmp_path), picture=picture).open(), indices)

    for number in range(3):
        write(number, (10 * number, 10 * number + 5))
    few = hashed(indices=[0, 3])
    whole, masks = hashed(), hashed("mask.png")
    assert len({few, whole, masks}) == 3
    with monkeypatch.context() as patched:
        patched.setattr(ShardsSource, "digests", lambda *given: pytest.fail("pictures were looked at one by one"))
        assert (hashed(indices=[0, 3]), hashed(), hashed("mask.png")) == (few, whole, masks)
    status = (tmp_path / "1.tar").stat()
    put_back(write(1, (10, 77)), status)
    assert hashed(indices=[0, 1]) != few and hashed(indices=[0, 4]) and hashed() != whole
    write(3, (30, 35))
    assert hashed() and hashed("mask.png")
    assert len(list(user_cache("digests").glob("*.states.safetensors"))) == 2, "one of each data set, whatever it grew to"
    (tmp_path / "3.tar").unlink()
    shutil.rmtree(user_cache("digests"))
    anew = hashed()
    write(1, (10, 15))
    assert hashed() == whole != anew


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_what_did_not_change_is_not_read_again(
    kind: str, tmp_path: Path, tar: Tar, encode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -3600.0)
    monkeypatch.setattr(digests, "_AT_ONCE", 2)
    place = folder_of(tmp_path / "a")
    if kind == "shards":
        for number in range(5):
            tar(place / f"{number}.tar", {"x.png": encode(bitmap(number))})
    read: list[str] = []
    original = digests._read
    monkeypatch.setattr(digests, "_read", lambda picture: read.append(picture.file.stem) or original(picture))

    def hashed(indices: list[int] | None = None) -> tuple[str, list[str]]:
        read.clear()
        source: Source = opened(place) if kind == "folder" else ShardsConfig(path=str(place)).open()
        return content_hash(source, indices), sorted(read)

    first, files = hashed([0, 1])
    assert files == ["0", "1"] and hashed([0, 1]) == (first, [])
    whole, files = hashed()
    assert files == ["2", "3", "4"] and hashed() == (whole, [])
    victim = place / ("3.bmp" if kind == "folder" else "3.tar")
    status = victim.stat()
    bitmap(77).save(victim) if kind == "folder" else tar(victim, {"x.png": encode(bitmap(77))})
    put_back(victim, status)  # ctime tells
    changed, files = hashed()
    assert changed != whole and files == ["3"]
    assert hashed([0, 1]) == (first, [])

    (memory,) = (Path(os.environ["XDG_CACHE_HOME"]) / "open-ldm" / "digests").iterdir()
    for damaged in (b"", b"{", memory.read_bytes()[:-3], b"\xff" * 99):
        memory.write_bytes(damaged)
        assert hashed() == (changed, ["0", "1", "2", "3", "4"])
        assert hashed() == (changed, [])


def test_no_process_forgets_what_another_read_or_what_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SETTLED_SECONDS": -3600.0, "_AT_ONCE": 1, "_SAVED_EVERY_PICTURES": 1}.items():
        monkeypatch.setattr(digests, name, value)
    read: list[str] = []
    original = digests._read
    monkeypatch.setattr(digests, "_read", lambda picture: read.append(picture.file.stem) or original(picture))
    source = opened(folder_of(tmp_path / "a", count=9))
    shares = [digests._Remembered("here", 99) for _ in range(4)]  # all loaded before the first is saved
    for number, share in enumerate(shares):
        share.keep(bytes([number] * 16), bytes(16))
        share.save()
    assert len(digests._Remembered("here", 99).digests) == 4

    for start in (0, 3, 6):
        content_hash(source, range(start, start + 3))
    assert sorted(read) == list("012345678")
    for indices in (None, [0, 4]):
        bitmap(77 if indices else 66).save(tmp_path / "a" / "0.bmp")
        read.clear()
        content_hash(source, indices)
        content_hash(source)
        assert read == ["0"]


def test_what_is_long_past_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        memory = digests._Remembered("here", 2)
        memory.keep(bytes([number] * 16), bytes(16))
        memory.save()
    assert [stamp[0] for stamp in digests._Remembered("here", 2).digests] == [2, 3, 4]


def test_a_file_of_this_moment_is_not_remembered(tmp_path: Path) -> None:
    content_hash(opened(folder_of(tmp_path / "a")))
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "open-ldm" / "digests").exists()


def test_processes_share_the_reading(tmp_path: Path) -> None:
    source = opened(folder_of(tmp_path / "a"))

    class One(World):
        def gathered(self, value: Any, name: str = "") -> list[Any]:
            told.append(value)
            return [*told[: self.rank], value]

    told: list[Any] = []
    counts: list[int] = []
    for rank in range(3):
        last = content_hash(source, world=One(rank, 3), on_pictures=counts.append)
    assert last == content_hash(source) and sum(counts) == 5 and max(counts) == 2

    told.clear()
    (tmp_path / "a" / "0.bmp").unlink()
    for rank in range(3):
        with pytest.raises(DataError, match=r"picture 0.bmp cannot be read now \(missing file: 0.bmp\)"):
            content_hash(source, world=One(rank, 3))
    assert len(told) == 3  # nobody left without a word


def test_a_picture_that_cannot_be_read_names_nothing_but_a_broken_one_does(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "1.bmp").write_bytes(b"")
    (folder / "2.bmp").write_bytes(b"no picture")
    source = opened(folder)
    before = content_hash(source), read_fingerprint(source)
    (folder / "0.bmp").unlink()
    with pytest.raises(
        DataError, match=r"picture 0.bmp cannot be read now \(missing file: 0.bmp\); needed: .*; fix: "
    ) as raised:
        content_hash(source)
    assert "\n" not in str(raised.value)
    assert read_fingerprint(source) != before[1]


def test_shapes_are_known_by_their_settings() -> None:
    assert content_hash(ShapesConfig(length=5).open()) == content_hash(ShapesConfig(length=5).open())
    assert content_hash(ShapesConfig(length=5).open()) != content_hash(ShapesConfig(length=5, seed=1).open())
