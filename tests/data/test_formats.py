"""Formats of phones and libraries beyond the common ones: read where the machine can, else counted with what helps."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from open_ldm.core.errors import DataError
from open_ldm.data import formats, jpeg_quality, pictures
from open_ldm.data.sample import UNKNOWN, BadPicture
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shards import ShardsConfig

Encode = Callable[..., bytes]
Tar = Callable[..., Path]
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
heif = pytest.mark.skipif(not HAS_HEIF, reason="pillow-heif is not installed")
avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
jpeg2000 = pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")


def smooth(height: int = 32, width: int = 48) -> Image.Image:
    """A picture that lossy formats keep nearly, different from its mirror images and turns."""
    rows, columns = np.mgrid[0:height, 0:width]
    values = np.stack([rows * 255 / height, columns * 255 / width, np.full(rows.shape, 90)], axis=2)
    return Image.fromarray(values.astype(np.uint8))


def encoded(suffix: str, **options: object) -> bytes:
    if suffix in (".heic", ".heif"):
        formats.formats_for(b"\0\0\0\x18ftypheic")
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".avif": "AVIF", ".jp2": "JPEG2000", ".heic": "HEIF", ".heif": "HEIF"}
    stream = io.BytesIO()
    smooth().save(stream, kinds[suffix], quality=95, **options)
    return stream.getvalue()


MORE = [".jfif", ".jpe", pytest.param(".avif", marks=avif), pytest.param(".jp2", marks=jpeg2000)]
MORE += [pytest.param(suffix, marks=heif) for suffix in (".heic", ".heif")]


@pytest.mark.parametrize("suffix", MORE)
def test_more_formats_are_pictures_in_folders_and_shards(suffix: str, tmp_path: Path, tar: Tar) -> None:
    content = encoded(suffix)
    (tmp_path / f"a{suffix.upper()}").write_bytes(content)
    tar(tmp_path / "a.tar", {f"a{suffix}": content, "a.cls": b"0"})
    for source in (FolderConfig(path=tmp_path).open(), ShardsConfig(path=str(tmp_path)).open()):
        (sample,) = (source[index] for index in range(len(source)))
        assert np.abs(sample.pixels.astype(int) - np.asarray(smooth())).mean() < 6
        assert source.size_of(0) == (32, 48) and sample.file == content
    known = jpeg_quality.read_quality(content)
    assert (known > 90) if suffix in (".jfif", ".jpe") else np.isnan(known) and np.isnan(UNKNOWN)


@pytest.mark.parametrize("suffix", [pytest.param(".avif", marks=avif), pytest.param(".heic", marks=heif), ".jfif"])
def test_photographs_that_lie_on_their_side_are_turned(suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(suffix, exif=exif.tobytes())
    upright = np.asarray(smooth().transpose(Image.Transpose.ROTATE_270))
    assert pictures.read_size(content, 64) == upright.shape[:2]
    assert np.abs(pictures.decode(content, 64).astype(int) - upright).mean() < 6
    assert pictures.lies_on_its_side(content) == (suffix != ".heic")  # the file itself says how it is turned


@heif
def test_a_damaged_heic_is_a_verdict() -> None:
    content = encoded(".heic")
    for broken in (content[:40], content[: len(content) // 2], content[:200] + bytes(300)):
        with pytest.raises(BadPicture) as caught:
            pictures.decode(broken, 64)
        assert caught.value.reason in (pictures.DAMAGED, pictures.NOT_A_PICTURE)


def test_what_is_not_read_is_counted_with_what_would_read_it(
    tmp_path: Path, encode: Encode, tar: Tar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    formats.suffixes.cache_clear()
    try:
        for name in ("a.png", "1.heic", "2.heic", "3.HEIC", "b.xmp"):
            (tmp_path / name).write_bytes(encode() if name == "a.png" else b"x")
        said = "4 other files ignored: .heic 3 (install open-ldm[data]), .xmp 1"
        assert said in FolderConfig(path=tmp_path).open().summary.sentence()
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
        assert said in FolderConfig(path=tmp_path).open().summary.sentence()
        tar(tmp_path / "x.tar", {"a.png": encode(), "b.heic": b"x"})
        sentence = ShardsConfig(path=str(tmp_path / "x.tar")).open().summary.sentence()
        assert "1 other member ignored: .heic 1 (install open-ldm[data])" in sentence
        for name in ("a.png", "metadata.jsonl", "b.xmp", "x.tar"):
            (tmp_path / name).unlink()
        with pytest.raises(DataError, match=r"3 other files: \.heic 3 \(install open-ldm\[data\]\)"):
            FolderConfig(path=tmp_path).open()
    finally:
        formats.suffixes.cache_clear()


@pytest.mark.parametrize(
    ("name", "kind"), [("00000.tar", "shards"), ("00000.parquet", "huggingface"), ("data.arrow", "huggingface")]
)
def test_folders_of_shards_and_tables_name_their_kind(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    (tmp_path / "00000_stats.json").touch()
    with pytest.raises(DataError, match=f"data.source.kind={kind}"):
        FolderConfig(path=tmp_path).open()
