from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.data import pictures, tiff
from open_ldm.data.pictures import decode, read_size
from open_ldm.data.sample import BadPicture

Encode = Callable[..., bytes]


def rgb(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str, encode: Encode, image: Callable[..., Image.Image]) -> None:
    picture = image().quantize(32).convert("RGB") if kind == "GIF" else image()
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encode(picture, kind, **options), 64)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, rgb(picture))


def test_jpeg_and_cmyk_jpeg_come_back_nearly(encode: Encode, image: Callable[..., Image.Image]) -> None:
    smooth = image().resize((64, 48)).quantize(4).convert("RGB").resize((32, 24), Image.Resampling.BOX)
    assert np.abs(decode(encode(smooth, "JPEG", quality=95), 64).astype(int) - rgb(smooth)).mean() < 12
    cmyk = smooth.convert("CMYK")
    assert np.abs(decode(encode(cmyk, "JPEG", quality=95), 64).astype(int) - rgb(cmyk)).mean() < 12
    np.testing.assert_array_equal(decode(encode(cmyk, "TIFF"), 64), rgb(cmyk))


def test_greyscale_bilevel_and_palette(encode: Encode, image: Callable[..., Image.Image]) -> None:
    for mode in ("L", "1", "P"):
        picture = image().convert(mode)
        np.testing.assert_array_equal(decode(encode(picture, "PNG"), 64), rgb(picture))


def test_sixteen_bits_use_the_full_range(encode: Encode) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    expected = [0, 0, 1, 1, 128, 255]
    for kind in ("PNG", "TIFF"):
        assert decode(encode(Image.fromarray(values), kind), 64)[0, :, 0].tolist() == expected
    in_32_bits = Image.fromarray(values.astype(np.int32))
    assert decode(encode(in_32_bits, "TIFF"), 64)[0, :, 1].tolist() == expected


def test_alpha_is_composited_on_white(encode: Encode) -> None:
    rgba = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        rgba.putpixel((x, 0), (200, 0, 100, alpha))
    expected = [[255, 255, 255], [227, 127, 177], [200, 0, 100]]
    assert np.abs(decode(encode(rgba), 64)[0].astype(int) - expected).max() <= 1
    grey = Image.new("LA", (2, 1), (0, 0))
    assert decode(encode(grey), 64).min() == 255
    transparent_palette = Image.new("P", (2, 2), 0)
    transparent_palette.putpalette([0, 0, 0, 255, 0, 0])
    transparent_palette.putpixel((1, 1), 1)
    pixels = decode(encode(transparent_palette, "PNG", transparency=0), 64)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [255, 0, 0]
    transparent_colour = Image.new("RGB", (1, 1), (1, 2, 3))
    assert decode(encode(transparent_colour, "PNG", transparency=(1, 2, 3)), 64).min() == 255


def test_first_frame_of_an_animation(encode: Encode) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = encode(frames[0], kind, save_all=True, append_images=frames[1:], **lossless(kind))
        assert decode(content, 64)[0, 0].tolist() == [255, 0, 0], kind


def lossless(kind: str) -> dict[str, bool]:
    return {"lossless": True} if kind == "WEBP" else {}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation(orientation: int, kind: str, encode: Encode, image: Callable[..., Image.Image]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(image(16, 24), kind, exif=exif.tobytes(), **lossless(kind))
    plain = rgb(image(16, 24))
    # Row 0 and column 0 of the stored picture are the sides the standard names (TIFF 6.0, tag 274).
    upright = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: plain[::-1].transpose(1, 0, 2),
        7: plain[::-1, ::-1].transpose(1, 0, 2),
        8: plain.transpose(1, 0, 2)[::-1],
    }[orientation]
    pixels = decode(content, 64)
    assert read_size(content, 64) == pixels.shape[:2] == upright.shape[:2]
    assert np.abs(pixels.astype(int) - upright).mean() < (25 if kind == "JPEG" else 0.1)


def test_broken_exif_counts_as_none(encode: Encode) -> None:
    content = encode(None, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    assert decode(content, 64).shape == (24, 32, 3)
    assert read_size(content, 64) == (24, 32)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def broken_pictures(encode: Encode, noise: Image.Image) -> dict[str, tuple[bytes, str]]:
    png, jpeg = encode(noise), encode(noise, "JPEG")
    lab = encode(Image.new("LAB", (4, 4)), "TIFF")
    floating = encode(Image.new("F", (4, 4)), "TIFF")
    wide = encode(Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)), "TIFF")
    return {
        "empty": (b"", pictures.EMPTY),
        "text": (b"hello, I am a picture" * 10, pictures.NOT_A_PICTURE),
        "html error page": (b"<html><body>404 Not Found</body></html>", pictures.NOT_A_PICTURE),
        "zeros": (bytes(5000), pictures.NOT_A_PICTURE),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", pictures.NOT_A_PICTURE),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", pictures.NOT_A_PICTURE),
        "jpeg cut in the header": (jpeg[:10], pictures.DAMAGED),
        "jpeg cut in the pixels": (jpeg[: len(jpeg) // 2], pictures.DAMAGED),
        "png cut in the pixels": (png[: len(png) // 2], pictures.DAMAGED),
        "png with a flipped byte": (png[:60] + bytes([png[60] ^ 255]) + png[61:], pictures.DAMAGED),
        "png without pixels": (png_claiming(64, 64), pictures.DAMAGED),
        "webp cut": (encode(noise, "WEBP")[:200], pictures.DAMAGED),
        "gif cut": (encode(noise, "GIF")[:820], pictures.DAMAGED),
        "bmp cut": (encode(noise, "BMP")[:200], pictures.DAMAGED),
        "tiff cut": (encode(noise, "TIFF")[:200], pictures.DAMAGED),
        "too large": (png_claiming(9000, 9000), pictures.TOO_LARGE),
        "bomb": (png_claiming(60_000, 60_000), pictures.TOO_LARGE),
        "lab": (lab, pictures.UNSUPPORTED_MODE),
        "floating point": (floating, pictures.UNSUPPORTED_MODE),
        "32 bits": (wide, pictures.UNSUPPORTED_MODE),
    }


@pytest.fixture(name="broken")
def broken_fixture(encode: Encode) -> dict[str, tuple[bytes, str]]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return broken_pictures(encode, Image.fromarray(noise))


def test_twenty_kinds_of_broken_picture_have_their_reason(broken: dict[str, tuple[bytes, str]]) -> None:
    assert len(broken) == 20
    reasons = {}
    for name, (content, _) in broken.items():
        with pytest.raises(BadPicture) as verdict:
            decode(content, 64)
        reasons[name] = verdict.value.reason
    assert reasons == {name: reason for name, (_, reason) in broken.items()}


def test_size_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch, encode: Encode) -> None:
    content = encode(Image.new("RGB", (200, 100)))
    assert decode(content, 0.02).shape == (100, 200, 3)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    for read in (decode, read_size):
        with pytest.raises(BadPicture, match="200 x 100"):
            read(content, 0.0199)


def test_size_needs_no_pixels(encode: Encode, tmp_path: Path) -> None:
    content = encode()
    assert read_size(content[: len(content) // 2], 64) == (24, 32)
    (tmp_path / "a.png").write_bytes(content)
    assert read_size(tmp_path / "a.png", 64) == (24, 32)
    for name, reason in (("missing.png", pictures.MISSING), ("", pictures.CANNOT_READ)):
        with pytest.raises(BadPicture) as verdict:
            read_size(tmp_path / name, 64)
        assert verdict.value.reason == reason


def test_reads_are_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.time, "sleep", lambda _: None)
    failures = iter([OSError(5, "Input/output error"), OSError(5, "Input/output error")])

    def read() -> bytes:
        for failure in failures:
            raise failure
        return b"content"

    assert pictures.with_retries(read, "x") == b"content"

    tries = []

    def refuse() -> bytes:
        tries.append(1)
        raise OSError(5, "Input/output error")

    with pytest.raises(BadPicture, match=r"cannot be read: x: Input/output error"):
        pictures.with_retries(refuse, "x")
    assert len(tries) == 3


def test_missing_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for name, reason in (("absent.png", pictures.MISSING), ("empty.png", pictures.EMPTY), ("", pictures.CANNOT_READ)):
        with pytest.raises(BadPicture) as verdict:
            decode(tmp_path / name, 64)
        assert verdict.value.reason == reason


def test_any_damage_is_a_verdict_not_a_crash(encode: Encode) -> None:
    random = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"):
        whole = bytearray(encode(None, kind))
        for _ in range(60):
            damaged = bytearray(whole)
            for place in random.integers(0, len(whole), 8):
                damaged[place] = random.integers(0, 256)
            try:
                assert decode(bytes(damaged), 1).dtype == np.uint8
            except BadPicture as verdict:
                assert verdict.reason in {*map(str, vars(pictures).values()), tiff.UNSUPPORTED, tiff.NEEDS_TIFFFILE}


def test_exif_behind_the_pixels_of_a_png_is_ignored_by_both(encode: Encode, image: Callable[..., Image.Image]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(image(16, 24), exif=exif.tobytes())
    start = content.index(b"eXIf") - 4
    length = struct.unpack(">I", content[start : start + 4])[0] + 12
    end = content.index(b"IEND") - 4
    moved = content[:start] + content[start + length : end] + content[start : start + length] + content[end:]
    assert Image.open(io.BytesIO(moved)).size == (24, 16)
    assert read_size(moved, 64) == decode(moved, 64).shape[:2] == (16, 24)
