"""Pixel size and channel names of OME-TIFF as columns, wherever the files lie."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.controls.metadata import Metadata
from open_ldm.core.files import StoredPart
from open_ldm.data.columns import columns_of
from open_ldm.data.sample import Source
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shards import ShardsConfig, ShardsSource

tifffile = pytest.importorskip("tifffile")

Tar = Callable[..., Path]
SIZES_UM = (0.25, 0.5, None, 1.0)


def ome_bytes(size_um: float | None, colour: bool = False) -> bytes:
    """A grey or two-channel OME-TIFF, whose pixel size is unknown where `size_um` is None."""
    about: dict[str, Any] = {"axes": "YXS" if colour else "CYX"}
    about |= {} if colour else {"Channel": {"Name": ["DAPI", "actin"]}}
    about |= {} if size_um is None else {"PhysicalSizeX": size_um * 1000, "PhysicalSizeXUnit": "nm"}
    values = np.zeros((8, 8, 3), np.uint8) if colour else np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, ome=True, metadata=about, photometric="rgb" if colour else "minisblack")
    return stream.getvalue()


def in_folder(root: Path, files: list[bytes], tar: Tar, **settings: Any) -> Source:
    for number, content in enumerate(files):
        (root / f"{number}.tif").write_bytes(content)
    return FolderConfig(path=root, **settings).open()


def in_shards(root: Path, files: list[bytes], tar: Tar, **settings: Any) -> Source:
    half = len(files) // 2
    for shard, part in enumerate((range(half), range(half, len(files)))):
        tar(root / f"{shard}.tar", {f"{number}.tif": files[number] for number in part})
    return ShardsConfig(path=str(root), **settings).open()


def in_table(root: Path, files: list[bytes], tar: Tar, **settings: Any) -> Source:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    rows = [{"bytes": content, "path": None} for content in files]
    parquet.write_table(arrow.table({"image": rows}), root / "train.parquet")
    return HuggingFaceConfig(path=str(root / "train.parquet"), **settings).open()


@pytest.mark.parametrize("laid_out", [in_folder, in_shards, in_table])
def test_pixel_size_and_channels_are_columns_and_controls(laid_out: Callable[..., Source], tmp_path: Path, tar: Tar) -> None:
    source = laid_out(tmp_path, [ome_bytes(size) for size in SIZES_UM], tar, channels=2, bits=16)
    columns = pickle.loads(pickle.dumps(columns_of(source)))
    assert [columns["ome.pixel_size_um"].at(index) for index in range(4)] == pytest.approx(list(SIZES_UM))
    assert columns["ome.channels"].counts() == {"DAPI, actin": 4}
    assert columns.unused(["ome.pixel_size_um"]) == ()
    assert source[0].attributes["ome.pixel_size_um"] == pytest.approx(0.25)
    found = Metadata(column="ome.pixel_size_um", scale="log").describe(source)
    assert (found.missing, found.smallest, found.median, found.largest) == (1, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("laid_out", [in_folder, in_shards, in_table])
def test_colour_pictures_have_them_too(laid_out: Callable[..., Source], tmp_path: Path, tar: Tar) -> None:
    columns = columns_of(laid_out(tmp_path, [ome_bytes(size, colour=True) for size in (0.25, 0.5)], tar))
    assert [columns["ome.pixel_size_um"].at(index) for index in range(2)] == pytest.approx([0.25, 0.5])


def test_pictures_that_say_nothing_have_no_such_columns_and_metadata_count_first(tmp_path: Path, tar: Tar) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    tar(tmp_path / "plain.tar", {"0.png": stream.getvalue()})
    assert not columns_of(ShardsConfig(path=str(tmp_path / "plain.tar")).open())
    own = json.dumps({"ome": {"pixel_size_um": 7}}).encode()
    tar(tmp_path / "own.tar", [("0.tif", ome_bytes(0.25)), ("0.json", own), ("1.tif", ome_bytes(0.5)), ("1.json", own)])
    columns = columns_of(ShardsConfig(path=str(tmp_path / "own.tar"), channels=2).open())
    assert columns["ome.pixel_size_um"].at(1) == 7 and columns["ome.channels"].at(1) == "DAPI, actin"


def test_of_a_picture_in_a_shard_only_the_header_is_read(tmp_path: Path, tar: Tar, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = np.zeros((2, 400, 400), np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, wide, ome=True, metadata={"axes": "CYX", "PhysicalSizeX": 0.5})
    source = ShardsConfig(path=str(tar(tmp_path / "a.tar", {"0.tif": stream.getvalue()})), channels=2).open()
    sizes: list[int] = []
    read = ShardsSource._read

    def noted(self: ShardsSource, index: int, offset: int, size: int) -> bytes:
        sizes.append(size)
        return read(self, index, offset, size)

    monkeypatch.setattr(ShardsSource, "_read", noted)
    assert columns_of(source)["ome.pixel_size_um"].at(0) == 0.5 and 0 < sum(sizes) < len(stream.getvalue()) // 10


def test_a_part_of_a_file_is_a_stream() -> None:
    whole = bytes(range(100))
    part = io.BufferedReader(StoredPart(lambda offset, size: whole[offset : offset + size], 20, 30), buffer_size=7)
    assert part.read() == whole[20:50] and part.read(1) == b""
    assert part.seek(-2, io.SEEK_END) == 28 and part.read(9) == whole[48:50]
    assert part.seek(5) == 5 and part.read(3) == whole[25:28] and part.seek(2, io.SEEK_CUR) == 10 and part.tell() == 10
    assert part.seek(99) == 99 and part.read(1) == b""
