"""A source's index hashed in parts: new captions or labels leave the pictures what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shards import ShardsConfig


def write(folder: Path, rows: list[dict[str, object]], image: Callable[..., Image.Image]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        file = folder / str(row["file_name"])
        if not file.exists():
            image(seed=number).save(file)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


ROWS: list[dict[str, object]] = [{"file_name": f"{n}.png", "text": f"picture {n}", "label": n % 2} for n in range(4)]


@pytest.mark.parametrize("part", ["pictures", "captions", "labels"])
def test_folder(part: str, tmp_path: Path, image: Callable[..., Image.Image]) -> None:
    before = FolderConfig(path=write(tmp_path / "a", ROWS, image)).open().hashes
    rows = [dict(row) for row in ROWS]
    if part == "pictures":
        rows[2] |= {"original_height": 99, "original_width": 99}
    else:
        rows[2]["text" if part == "captions" else "label"] = "new" if part == "captions" else 1
    after = FolderConfig(path=write(tmp_path / "a", rows, image)).open().hashes
    changed = {name for name in ("pictures", "captions", "labels") if getattr(before, name) != getattr(after, name)}
    assert changed == {part}


def test_a_folder_in_another_place_is_the_same(tmp_path: Path, image: Callable[..., Image.Image]) -> None:
    one, other = (FolderConfig(path=write(tmp_path / name, ROWS, image)).open() for name in "ab")
    assert one.hashes == other.hashes


def test_captions_and_labels_without_pictures(tmp_path: Path, image: Callable[..., Image.Image]) -> None:
    source = FolderConfig(path=write(tmp_path / "a", ROWS, image)).open()
    assert [source.captions_of(index) for index in range(4)] == [source[index].captions for index in range(4)]
    shapes = ShapesConfig(length=5).open()
    assert [shapes.captions_of(index) for index in range(5)] == [shapes[index].captions for index in range(5)]


def test_shards(tmp_path: Path, encode: Callable[..., bytes], tar: Callable[..., Path]) -> None:
    def open_with(text: str, label: str, picture: bytes) -> ShardsConfig:
        members = [("a.png", picture), ("a.txt", text.encode()), ("a.cls", label.encode()), ("b.png", picture), ("b.cls", b"0")]
        tar(tmp_path / "x.tar", members)
        return ShardsConfig(path=str(tmp_path))

    first = open_with("one", "0", encode()).open()
    before = first.hashes
    assert first.captions_of(0) == ("one",) and first.captions_of(1) == ()
    assert open_with("one", "0", encode()).open().hashes == before
    relabelled = open_with("one", "1", encode()).open().hashes
    assert (relabelled.pictures, relabelled.captions) == (before.pictures, before.captions)
    assert relabelled.labels != before.labels
    longer = open_with("longer caption", "0", encode()).open().hashes
    assert longer.captions != before.captions and longer.labels == before.labels


def test_shapes_follow_their_settings() -> None:
    assert ShapesConfig(length=5).open().hashes == ShapesConfig(length=5).open().hashes
    assert ShapesConfig(length=5).open().hashes != ShapesConfig(length=5, seed=1).open().hashes
