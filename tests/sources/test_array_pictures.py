from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.commands.array_file import write_npz
from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.core.errors import DataError
from open_ldm.sources.array_pictures import open_array

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


def written(path: Path, how: str) -> Path:
    """The same pictures as our own writer, and as numpy's two writers, leave them."""
    if how == "own":
        write_npz(path, PICTURES.shape, [PICTURES[:2], PICTURES[2:]])
    elif how == "stored":
        np.savez(path, PICTURES, np.arange(5))  # as ADM's scripts do, with labels
    elif how == "compressed":
        np.savez_compressed(path, PICTURES)
    else:
        np.savez(path, np.asfortranarray(PICTURES))
    return path


@pytest.mark.parametrize("how", ["own", "stored", "compressed", "fortran"])
def test_pictures_are_those_that_numpy_reads(tmp_path: Path, how: str) -> None:
    source = open_pictures(written(tmp_path / "samples.npz", how))
    assert len(source) == 5
    for index in range(5):
        sample = source[index]
        np.testing.assert_array_equal(sample.pixels, np.load(tmp_path / "samples.npz")["arr_0"][index])
        assert (sample.original_height_px, sample.original_width_px) == source.size_of(index) == (6, 4)
    assert source.summary.sentence() == "5 pictures, no classes, no captions (array arr_0 of samples.npz)"


def test_an_array_that_is_not_compressed_stays_on_the_disk(tmp_path: Path) -> None:
    for how, where in {"own": np.memmap, "stored": np.memmap, "compressed": np.ndarray}.items():
        assert type(open_array(written(tmp_path / f"{how}.npz", how)).pictures) is where


def test_a_folder_of_an_array_is_its_array(tmp_path: Path) -> None:
    written(tmp_path / "samples.npz", "own")
    (tmp_path / "samples.json").write_text("{}")
    assert len(open_pictures(tmp_path)) == 5
    assert len(open_pictures((tmp_path / "samples.npz").rename(tmp_path / "SAMPLES.NPZ"))) == 5


def test_equal_pictures_have_equal_digests(tmp_path: Path) -> None:
    one, other = (open_array(written(tmp_path / f"{how}.npz", how)) for how in ("own", "compressed"))
    seen: list[int] = []
    assert one.digests([3, 0], seen.append) == other.digests([3, 0], seen.append)
    assert one.digests([0], seen.append) != one.digests([1], seen.append)
    assert sum(seen) == 6


def test_another_array_of_the_same_shape_has_another_fingerprint(tmp_path: Path) -> None:
    one = open_array(written(tmp_path / "one.npz", "own"))
    changed = PICTURES.copy()
    changed[4, 5, 3, 2] ^= 1
    np.savez(tmp_path / "changed.npz", changed)
    assert one.fingerprint != open_array(tmp_path / "changed.npz").fingerprint
    assert one.fingerprint == open_array(written(tmp_path / "again.npz", "own")).fingerprint


def test_pictures_beside_an_array_are_not_hidden_by_it(tmp_path: Path) -> None:
    written(tmp_path / "samples.npz", "own")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    assert len(open_pictures(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": PICTURES}, "has no array arr_0"),
        ({"arr_0": PICTURES.astype(np.float32)}, r"is float32 \[5, 6, 4, 3\]"),
        ({"arr_0": PICTURES.transpose(0, 3, 1, 2)}, r"is uint8 \[5, 3, 6, 4\]"),
        ({"arr_0": PICTURES[:0]}, r"is uint8 \[0, 6, 4, 3\]"),
    ],
    ids=["another name", "floats", "channels first", "empty"],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"{said}; needed: an array arr_0 of uint8 \[N, H, W, 3\]"):
        open_array(tmp_path / "a.npz")


def archive(path: Path, content: bytes, method: int) -> Path:
    """An .npz file whose entry arr_0 holds these bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("arr_0.npy", content)
    return path


def npy(header: str) -> bytes:
    """An array of 100 bytes with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(100)


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 8, 8, 3)}\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "compressed"])
@pytest.mark.parametrize("header", [HEADER % 10**13, HEADER % 2, "{'descr': '|u1', 'shape': (\n"], ids=["vast", "short", "cut"])
def test_a_broken_array_is_refused(tmp_path: Path, method: int, header: str) -> None:
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        open_array(archive(tmp_path / "a.npz", npy(header), method))


def test_damaged_bytes_and_unknown_compressions_are_refused(tmp_path: Path) -> None:
    damaged = bytearray(archive(tmp_path / "a.npz", PICTURES.tobytes(), zipfile.ZIP_LZMA).read_bytes())
    damaged[60:70] = bytes(10)
    unknown = bytearray(archive(tmp_path / "a.npz", PICTURES.tobytes(), zipfile.ZIP_STORED).read_bytes())
    unknown[unknown.rfind(b"PK\x01\x02") + 10] = 97
    for content in (damaged, unknown):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz cannot be read"):
            open_array(tmp_path / "a.npz")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no archive")
    for name in ("a.npz", "missing.npz"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            open_array(tmp_path / name)
