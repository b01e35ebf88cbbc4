"""The quality of a picture's file: exact where libjpeg wrote it, 100 where nothing was lost, unknown where nothing tells."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.data.jpeg_quality import read_quality
from open_ldm.data.measures import measure
from open_ldm.data.survey import survey
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.shrunk import ShrunkConfig

Encode = Callable[..., bytes]


def test_every_quality_of_libjpeg_is_read_exactly(encode: Encode, image: Callable[..., Image.Image]) -> None:
    for quality in range(1, 101):
        assert read_quality(encode(None, "JPEG", quality=quality)) == quality
    for options in ({"progressive": True}, {"subsampling": 0}, {"optimize": True}, {"comment": b"x" * 5000}):
        assert read_quality(encode(None, "JPEG", quality=71, **options)) == 71
    assert read_quality(encode(image().convert("L"), "JPEG", quality=33)) == 33
    assert read_quality(encode(image().convert("CMYK"), "JPEG", quality=33)) == 33


@pytest.mark.parametrize("quality", [8, 30, 55, 80, 95])
def test_tables_of_other_programs_are_estimated(encode: Encode, quality: int) -> None:
    """The table of a quality, each number of it up to a tenth off and rounded, as other programs round and shape theirs."""
    with Image.open(io.BytesIO(encode(None, "JPEG", quality=quality))) as opened:
        table = np.array(opened.quantization[0])
    draws = np.random.default_rng(quality)
    shaped = np.clip(np.round(table * draws.uniform(0.9, 1.1, 64)), 1, 255).astype(int).tolist()
    assert read_quality(encode(None, "JPEG", qtables=[shaped, shaped])) == pytest.approx(quality, abs=3)


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("PNG", {}, 100),
        ("BMP", {}, 100),
        ("GIF", {}, 100),
        ("TIFF", {}, 100),
        ("TIFF", {"compression": "tiff_lzw"}, 100),
        ("WEBP", {"lossless": True}, 100),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0abc"}, 100),
        ("WEBP", {"quality": 90}, None),
        ("WEBP", {"quality": 90, "exif": b"Exif\0\0abc"}, None),
        ("TIFF", {"compression": "jpeg"}, None),
    ],
)
def test_other_formats(encode: Encode, kind: str, options: dict[str, Any], wanted: float | None) -> None:
    found = read_quality(encode(None, kind, **options))
    assert math.isnan(found) if wanted is None else found == wanted


def test_what_is_no_picture_file(encode: Encode) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 4), np.uint8))
    assert read_quality(None) == read_quality(stream.getvalue()) == 100
    assert math.isnan(read_quality(b"nothing")) and math.isnan(read_quality(b"RIFF\x04\0\0\0WEBP"))


def test_folders_and_shards_know_it(tmp_path: Path, encode: Encode, tar: Callable[..., Path]) -> None:
    files = {f"{quality}.jpg": encode(None, "JPEG", quality=quality) for quality in (20, 50, 90)} | {"99.png": encode()}
    (tmp_path / "folder").mkdir()
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    tar(tmp_path / "a.tar", files)
    folder = FolderConfig(path=tmp_path / "folder")
    shrunk = ShrunkConfig(of=folder, short_side_px=(8, 8))
    for config in (folder, ShardsConfig(path=str(tmp_path / "a.tar")), shrunk):
        source = config.open()
        found = [measure(source[index], ["jpeg_quality"])["jpeg_quality"] for index in range(4)]
        assert found == [20, 50, 90, 100]
        quantiles = survey(source, measures=["jpeg_quality"]).measured["jpeg_quality"].quantiles
        assert quantiles is not None and (quantiles.smallest, quantiles.largest) == (20, 100)
