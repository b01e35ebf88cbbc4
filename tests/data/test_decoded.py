"""What a survey that decodes says: kinds of files, value ranges, broken pictures, and cameras of 12 bits."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.data.decoded import FileKind, decode_all, kind_of
from open_ldm.data.ome import tiff_bytes
from open_ldm.data.survey import survey
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shapes import ShapesConfig

Encode = Callable[..., bytes]


def npy(values: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def sixteen(top: int, count: int = 1) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return (np.arange(count * 24 * 32).reshape(count, 24, 32) % (top + 1)).astype(np.uint16)


def test_files_say_their_channels_and_bits(encode: Encode, image: Callable[..., Image.Image]) -> None:
    half = image().convert("RGBA")
    half.putalpha(128)
    kinds = {
        "JPEG": (encode(image(), "JPEG"), FileKind("JPEG", 3, 8)),
        "grey": (encode(image().convert("L"), "PNG"), FileKind("PNG", 1, 8)),
        "palette": (encode(image().quantize(8), "PNG"), FileKind("PNG", 3, 8)),
        "one bit": (encode(image().convert("1"), "PNG"), FileKind("PNG", 1, 8)),
        "alpha": (encode(half, "WEBP", lossless=True), FileKind("WEBP", 4, 8)),
        "wide PNG": (encode(Image.fromarray(sixteen(9)[0]), "PNG"), FileKind("PNG", 1, 16)),
        "TIFF": (encode(image(), "TIFF"), FileKind("TIFF", 3, 8)),
        "wide TIFF": (tiff_bytes(sixteen(9)), FileKind("TIFF", 1, 16, colours=False)),
        "pages": (tiff_bytes(sixteen(9, 4)), FileKind("TIFF", 4, 16, colours=False)),
        "npy": (npy(np.moveaxis(sixteen(9, 5), 0, 2)), FileKind("NPY", 5, 16, colours=False)),
    }
    assert {name: kind_of(content) for name, (content, _) in kinds.items()} == {name: kind for name, (_, kind) in kinds.items()}
    own = {name for name, (_, kind) in kinds.items() if kind.own_channels}
    assert own == {"wide PNG", "wide TIFF", "pages", "npy"}


def test_a_survey_that_decodes_counts_kinds_and_ranges(tmp_path: Path, encode: Encode) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encode(Image.new("RGB", (20, 10), (10, 200, 30)), "PNG"))
    (tmp_path / "c.png").write_bytes(encode(Image.new("L", (20, 10), 90)))
    (tmp_path / "d.png").write_bytes(encode()[:60])
    found = survey(FolderConfig(path=tmp_path).open(), decode=True)
    assert found.content is not None and found.content.kinds == {
        "PNG, 3 channels of 8 bits": 2,
        "PNG, 1 channel of 8 bits": 1,
    }
    assert found.content.ranges == ((10, 90), (90, 200), (30, 90)) and found.content.top == 255
    assert [bad.id for bad in found.bad] == ["d.png"] and found.to_json()["files"]["ranges"][0] == [10, 90]
    assert "2 files: PNG, 3 channels of 8 bits\n1 file: PNG, 1 channel of 8 bits\n" in found.text()
    assert found.text().splitlines()[0].endswith("; 3 of 4 decoded") and found.decoded == 4
    assert "values from 10 to 90, 90 to 200" in found.text()
    quick = survey(FolderConfig(path=tmp_path).open())
    assert quick.content is None and not {"files", "content", "decoded"} & set(quick.to_json())
    assert decode_all(ShapesConfig(length=3).open()).kinds == {}


@pytest.mark.parametrize(("top", "warned"), [(4095, True), (30000, False)])
def test_twelve_bits_in_files_of_sixteen_warn_in_both_ways_of_reading(top: int, warned: bool, tmp_path: Path) -> None:
    wide = np.arange(0, top + 1, max(1, top // 900), dtype=np.uint16)[:800].reshape(1, 20, 40)
    wide[0, -1, -10:] = top
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(tiff_bytes(wide))
    as_rgb = survey(FolderConfig(path=tmp_path).open(), decode=True).problems()
    assert bool(as_rgb) == warned and (not warned or "3 files of 16 bits reach 16 of 255 as RGB" in as_rgb[0])
    for bits in (8, 16):
        grey = survey(FolderConfig(path=tmp_path, channels=1, bits=bits).open())
        assert bool(grey.problems()) == warned and grey.reach == (16 if warned else 117,)
