"""Files of other channels than RGB: exact round trips, the rule for 8 bits, verdicts, and what the sources make of them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from open_ldm.core.errors import DataError
from open_ldm.data import channels, pictures
from open_ldm.data.channels import decode, read_size
from open_ldm.data.sample import BadPicture
from open_ldm.data.survey import survey
from open_ldm.data.transforms import TransformConfig, cut_view, plan_view, resampled
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import DataConfig
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.shrunk import ShrunkConfig

Array = np.ndarray[Any, Any]


def numbers(*shape: int, top: int = 256, dtype: Any = np.uint8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def npy(array: Array, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def headed(shape: str) -> bytes:
    """A .npy file of bytes that says it has this shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(99)


def pages(array: Array, kind: str = "TIFF", **options: Any) -> bytes:
    """[H, W, N] as N greyscale pages."""
    first, *others = [Image.fromarray(np.ascontiguousarray(array[:, :, channel])) for channel in range(array.shape[2])]
    stream = io.BytesIO()
    first.save(stream, kind, **({"save_all": True, "append_images": others} if others else {}), **options)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_8_bits_come_back_exactly(version: tuple[int, int]) -> None:
    array = numbers(7, 11, 5)
    for content in (npy(array, version), npy(np.asfortranarray(array)), pages(array), pages(array, compression="tiff_lzw")):
        found = decode(content, 5, None, 64)
        assert found.dtype == np.uint8
        assert found.flags.writeable
        np.testing.assert_array_equal(found, array)
        assert read_size(content, 5, 64) == (7, 11)


def test_16_bits_follow_the_rule_of_greyscale_pictures() -> None:
    array = numbers(6, 5, 3, top=65536, dtype=np.uint16)
    array[0, 0] = (0, 65535, 128)
    wanted = np.stack([pictures.decode(pages(array[:, :, [channel]]), 64)[:, :, 0] for channel in range(3)], axis=2)
    for content in (npy(array), npy(array.astype(">u2")), pages(array)):
        np.testing.assert_array_equal(decode(content, 3, None, 64), wanted)


def test_a_range_is_spread_over_8_bits_and_clamped() -> None:
    array = np.array([[[0, 90, 100], [8, 100, 355], [4095, 5000, 65535], [2048, 150, 228]]], dtype=np.uint16)
    ranges = ((0, 4095), (100, 200), (100, 355))
    wanted = [[0, 0, 0], [0, 0, 255], [255, 255, 255], [128, 128, 128]]
    for content in (npy(array), pages(array)):
        assert decode(content, 3, ranges, 64)[0].tolist() == wanted
        # 255 * 8 / 4095 = 0.498 rounds down and 255 * 9 / 4095 = 0.56 up.
    assert decode(npy(np.array([[8, 9]], np.uint16)), 1, ((0, 4095),), 64)[0, :, 0].tolist() == [0, 1]
    assert decode(npy(np.array([[10, 20, 30]], np.uint8)), 1, ((10, 30),), 64)[0, :, 0].tolist() == [0, 128, 255]


def test_one_range_serves_all_channels() -> None:
    array = numbers(4, 4, 5, top=4096, dtype=np.uint16)
    np.testing.assert_array_equal(decode(npy(array), 5, ((0, 4095),), 64), decode(npy(array), 5, ((0, 4095),) * 5, 64))
    assert decode(npy(array), 5, ((0, 4095),), 64).max() > 200
    assert decode(npy(array), 5, None, 64).max() <= 16


def test_one_channel_is_any_greyscale_picture() -> None:
    array = numbers(5, 9)
    for content in (npy(array), npy(array[:, :, None]), pages(array[:, :, None]), pages(array[:, :, None], "PNG")):
        np.testing.assert_array_equal(decode(content, 1, None, 64)[:, :, 0], array)
    turned = Image.fromarray(array)
    exif = turned.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    turned.save(stream, "PNG", exif=exif)
    assert read_size(stream.getvalue(), 1, 64) == (9, 5)
    np.testing.assert_array_equal(decode(stream.getvalue(), 1, None, 64)[:, :, 0], np.rot90(array, -1))


def mixed_pages() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "TIFF", save_all=True, append_images=[Image.new("L", (4, 5))])
    return stream.getvalue()


BAD: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 2, pictures.EMPTY),
    "too few channels": (npy(numbers(4, 4, 3)), 5, channels.WRONG_CHANNELS),
    "channels first": (npy(numbers(5, 8, 8)), 5, channels.WRONG_CHANNELS),
    "a single plane": (npy(numbers(4, 4)), 5, channels.WRONG_CHANNELS),
    "four dimensions": (npy(numbers(1, 4, 4, 5)), 5, channels.WRONG_CHANNELS),
    "too few pages": (pages(numbers(4, 4, 3)), 5, channels.WRONG_CHANNELS),
    "floats": (npy(numbers(4, 4, 2, dtype=np.float32)), 2, channels.WRONG_NUMBERS),
    "signed": (npy(numbers(4, 4, 2, dtype=np.int16)), 2, channels.WRONG_NUMBERS),
    "wide": (npy(numbers(4, 4, 2, dtype=np.uint32)), 2, channels.WRONG_NUMBERS),
    "pickled objects": (npy(np.array([[{"a": 1}, None]], dtype=object)), 1, channels.WRONG_NUMBERS),
    "a pickle": (pickle.dumps(numbers(4, 4, 2)), 2, pictures.NOT_A_PICTURE),
    "text": (b"no picture at all", 2, pictures.NOT_A_PICTURE),
    "no rows": (npy(numbers(0, 4, 2)), 2, pictures.DAMAGED),
    "cut header": (npy(numbers(4, 4, 2))[:40], 2, pictures.DAMAGED),
    "broken header": (npy(numbers(4, 4, 2)).replace(b"{'descr'", b"[[[[[[[["), 2, pictures.DAMAGED),
    "sides that are no numbers": (headed("(True, True, 2)"), 2, pictures.DAMAGED),
    "a parser's nightmare": (headed("-" * 9000 + "1"), 2, pictures.DAMAGED),
    "a long header": (headed("(" * 3000 + ")" * 3000), 2, pictures.DAMAGED),
    "unknown version": (b"\x93NUMPY\x09\x00" + npy(numbers(4, 4, 2))[8:], 2, pictures.DAMAGED),
    "cut array": (npy(numbers(40, 40, 2))[:-1], 2, pictures.DAMAGED),
    "cut page": (pages(numbers(90, 90, 1))[:4000], 1, pictures.DAMAGED),
    "too large": (npy(numbers(1001, 1000, 2)), 2, pictures.TOO_LARGE),
    "too large a page": (pages(numbers(1001, 1000, 2)), 2, pictures.TOO_LARGE),
    "unequal pages": (mixed_pages(), 2, channels.UNEQUAL_PAGES),
}
SEEN_ONLY_WHEN_DECODED = ("cut array", "cut page", "unequal pages")


@pytest.mark.parametrize("name", BAD)
def test_odd_files_are_verdicts(name: str) -> None:
    content, count, reason = BAD[name]
    with pytest.raises(BadPicture) as caught:
        decode(content, count, None, 1)
    assert caught.value.reason == reason and len(caught.value.detail) <= 200
    if name not in SEEN_ONLY_WHEN_DECODED:
        with pytest.raises(BadPicture) as caught:
            read_size(content, count, 1)
        assert caught.value.reason == reason


def test_colour_pages_are_refused() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    with pytest.raises(BadPicture, match="unsupported colour mode: RGB, needed greyscale"):
        decode(stream.getvalue(), 1, None, 64)


def test_any_damage_is_a_verdict() -> None:
    """Whatever bytes are turned over, nothing but a picture or BadPicture comes out."""
    draw = np.random.default_rng(1)
    for whole in (npy(numbers(6, 6, 3)), pages(numbers(6, 6, 3, dtype=np.uint16))):
        for _ in range(150):
            broken = bytearray(whole)
            for place in draw.integers(0, min(len(whole), 400), 3):
                broken[place] = draw.integers(0, 256)
            for read in (partial(decode, bytes(broken), 3, None, 1), partial(read_size, bytes(broken), 3, 1)):
                try:
                    read()
                except BadPicture as verdict:
                    assert verdict.reason


def lab_folder(root: Path, count: int = 12, top: int = 65536) -> Path:
    for index in range(count):
        array = numbers(20 + index, 24, 5, top=top, dtype=np.uint16, seed=index)
        content = npy(array) if index % 2 else pages(array)
        (root / f"{index:02d}{'.npy' if index % 2 else '.tif'}").write_bytes(content)
    return root


def test_a_folder_gives_its_channels(tmp_path: Path) -> None:
    source = FolderConfig(path=lab_folder(tmp_path), channels=5).open()
    (tmp_path / "picture.png").write_bytes(pages(numbers(4, 4, 1), "PNG"))
    assert len(FolderConfig(path=tmp_path, channels=5).open()) == 12, "a PNG holds no five channels"
    assert source.summary.sentence() == "12 pictures of 5 channels, no classes, no captions (flat)"
    for index in range(12):
        assert source[index].pixels.shape == (*source.size_of(index), 5) == (20 + index, 24, 5)
    given = numbers(21, 24, 5, top=65536, dtype=np.uint16, seed=1)
    np.testing.assert_array_equal(source[1].pixels, (given.astype(int) + 128) // 257)


def test_a_folder_without_channels_reads_the_first_page_of_8_bits_and_no_stack_of_16(tmp_path: Path) -> None:
    lab_folder(tmp_path, 4)
    source = FolderConfig(path=tmp_path).open()
    assert [source.sample_id(index) for index in range(len(source))] == ["00.tif", "02.tif"]
    assert source.summary.layout == "flat; 2 other files ignored: .npy 2"
    for read in (source.__getitem__, source.size_of):
        with pytest.raises(BadPicture, match=r"5 pages of uint16, needed one; fix: data\.source\.channels=5"):
            read(0)
    array = numbers(20, 24, 5)
    (tmp_path / "00.tif").write_bytes(pages(array))
    np.testing.assert_array_equal(FolderConfig(path=tmp_path).open()[0].pixels, np.repeat(array[:, :, :1], 3, axis=2))


def test_channels_are_part_of_what_the_pictures_are(tmp_path: Path) -> None:
    lab_folder(tmp_path, 4)
    settings: list[dict[str, Any]] = [{"channels": 5}, {"channels": 4}, {"channels": 5, "channel_range": ((0, 4095),)}]
    found = {FolderConfig(path=tmp_path, **one).open().hashes.pictures for one in settings}
    assert len(found) == 3


def test_shards_hold_arrays_and_pages(tmp_path: Path, tar: Callable[..., Path]) -> None:
    arrays = [numbers(9, 8, 4, seed=seed) for seed in range(3)]
    tar(
        tmp_path / "a.tar",
        {"0.npy": npy(arrays[0]), "0.cls": b"1", "1.tif": pages(arrays[1]), "1.cls": b"0", "2.npy": npy(arrays[2])[:-5]},
    )
    source = ShardsConfig(path=str(tmp_path), channels=4).open()
    for index in range(2):
        np.testing.assert_array_equal(source[index].pixels, arrays[index])
        assert source.size_of(index) == (9, 8)
    with pytest.raises(BadPicture):
        source[2]
    assert "other members ignored: .npy 2" in ShardsConfig(path=str(tmp_path)).open().summary.sentence()
    tar(tmp_path / "a.tar", {"0.npy": npy(arrays[0]), "0.cls": b"1"})
    with pytest.raises(DataError, match=r"no pictures; .*; found \.npy"):
        ShardsConfig(path=str(tmp_path)).open()


def test_a_survey_counts_bad_files_and_says_what_is_dark(tmp_path: Path) -> None:
    lab_folder(tmp_path, top=4096)
    (tmp_path / "three.npy").write_bytes(npy(numbers(8, 8, 3)))
    seen = survey(FolderConfig(path=tmp_path, channels=5).open())
    assert [(bad.id, bad.reason) for bad in seen.bad] == [("three.npy", channels.WRONG_CHANNELS)]
    assert seen.reach == (16,) * 5
    assert "channel 0, 1, 2, 3, 4: at most 16 of 255 is used" in seen.text()
    bright = survey(FolderConfig(path=tmp_path, channels=5, channel_range=((0, 4095),)).open())
    assert min(bright.reach) > 250
    assert bright.problems() == []
    with pytest.raises(DataError, match=r"none of 13 .* needed \[height, width, 7\]|none of 13 .*5.* needed 7"):
        survey(FolderConfig(path=tmp_path, channels=7).open())


@pytest.mark.parametrize(
    "settings",
    [
        {"channel_range": ((0, 4095),)},
        {"channels": 5, "channel_range": ((0, 4095), (0, 4095))},
        {"channels": 2, "channel_range": ((0, 4095), (9, 9))},
        {"channels": 1, "channel_range": ((0, 65536),)},
        {"channels": 0},
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FolderConfig(path=Path(), **settings)


def test_what_is_shown_must_be_there() -> None:
    transform = TransformConfig(size_px=8)
    source = FolderConfig(path=Path(), channels=5)
    assert DataConfig(source=source, transform=transform, display=(4, 0, 0)).channels == 5
    assert DataConfig(source=FolderConfig(path=Path()), transform=transform).channels == 3
    for given, display in ((source, (0, 1, 5)), (FolderConfig(path=Path()), (2, 1, 0))):
        with pytest.raises(ValidationError, match="display"):
            DataConfig(source=given, transform=transform, display=display)


@pytest.mark.parametrize("size", [(40, 64), (200, 150), (9, 7)])
def test_every_channel_is_cut_as_if_alone(size: tuple[int, int]) -> None:
    pixels = numbers(*size, 5)
    transform = TransformConfig(size_px=(16, 24), flip=0.5)
    for position in range(6):
        record = plan_view(size, size, transform, 0, position)
        view = cut_view(pixels, record)
        assert tuple(view.shape) == (5, 16, 24)
        for channel in range(5):
            grey = cut_view(np.repeat(pixels[:, :, [channel]], 3, axis=2), record)
            np.testing.assert_array_equal(view[channel].numpy(), grey[1].numpy())


def test_rgb_is_resampled_by_one_call_of_pillow() -> None:
    pixels = numbers(50, 40, 3)
    box = (1.5, 2.0, 38.25, 47.0)
    alone = Image.fromarray(pixels).resize((16, 12), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    np.testing.assert_array_equal(resampled(pixels, (16, 12), box), np.asarray(alone))


def test_shrinking_keeps_the_channels(tmp_path: Path) -> None:
    inner = FolderConfig(path=lab_folder(tmp_path), channels=5)
    config = ShrunkConfig(of=inner, short_side_px=(8, 12))
    source = config.open()
    assert DataConfig(source=config, transform=TransformConfig(size_px=8)).channels == 5
    sample = source[3]
    assert sample.pixels.shape == (*source.size_of(3), 5)
    assert min(sample.pixels.shape[:2]) <= 12
