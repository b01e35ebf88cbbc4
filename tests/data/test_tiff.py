"""TIFF as microscopes and libraries write it: each file is read as it is, or refused by a line that names what was found."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.data import channels, pictures, tiff
from open_ldm.data.sample import BadPicture
from open_ldm.sources.folder import FolderConfig

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 12, 10
TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "float16", "float32", "float64")


def by_hand(planes: Array, photometric: int, order: str = "<", planar: int = 1, orientation: int = 1) -> bytes:
    """A TIFF of one uncompressed page, written without any library. Planes: [H, W], [H, W, S], or [S, H, W] with planar 2."""
    samples = 1 if planes.ndim == 2 else planes.shape[0 if planar == 2 else 2]
    height, width = planes.shape[1:] if planar == 2 else planes.shape[:2]
    body = planes.astype(planes.dtype.newbyteorder(order)).tobytes()
    strips = samples if planar == 2 else 1
    at = 8 + len(body)
    lists = struct.pack(f"{order}{samples}H", *[planes.dtype.itemsize * 8] * samples)
    lists += struct.pack(f"{order}{strips}I", *(8 + index * (len(body) // strips) for index in range(strips)))
    lists += struct.pack(f"{order}{strips}I", *[len(body) // strips] * strips)

    def several(kind: int, count: int, offset: int, single: int) -> tuple[int, int, int]:
        return kind, count, single if count == 1 else offset

    bits = planes.dtype.itemsize * 8
    pair = bits | (bits << 16 if order == "<" else 0)
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, samples, at) if samples > 2 else (4, 1, bits) if samples == 1 else (3, 2, pair),
        259: (4, 1, 1),
        262: (4, 1, photometric),
        273: several(4, strips, at + 2 * samples, 8),
        274: (4, 1, orientation),
        277: (4, 1, samples),
        278: (4, 1, height),
        279: several(4, strips, at + 2 * samples + 4 * strips, len(body)),
        284: (4, 1, planar),
    }
    if samples > 3 or (samples > 1 and photometric < 2):
        extra = samples - (3 if photometric == 2 else 1)
        tags[338] = (3, extra, at + len(lists)) if extra > 2 else (3, extra, 0)
        lists += bytes(2 * extra)
    entries = b"".join(struct.pack(f"{order}HHII", tag, *value) for tag, value in tags.items())
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, at + len(lists))
    return head + body + lists + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def ramp(dtype: str, *shape: int) -> Array:
    top = np.iinfo(dtype).max
    return (np.arange(np.prod(shape)).reshape(shape) * 977 % (top + 1)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_may_be_zero(dtype: str) -> None:
    values = ramp(dtype, HEIGHT, WIDTH)
    content, black = by_hand(values, 0), by_hand(np.iinfo(dtype).max - values, 1)
    wanted = channels.decode(black, 1, None, 1)
    np.testing.assert_array_equal(channels.decode(content, 1, None, 1), wanted)
    np.testing.assert_array_equal(pictures.decode(content, 1), np.repeat(wanted, 3, axis=2))
    dark = ((0, 1000),) if dtype == "uint16" else ((0, 100),)
    np.testing.assert_array_equal(channels.decode(content, 1, dark, 1), channels.decode(black, 1, dark, 1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_separate_planes_of_16_bits_are_the_picture_or_refused(order: str) -> None:
    planes = ramp("uint16", 3, HEIGHT, WIDTH)
    content = by_hand(planes, 2, order, planar=2)
    try:
        found = pictures.decode(content, 1)
    except BadPicture as verdict:
        assert verdict.reason == tiff.NEEDS_TIFFFILE and "3 samples of uint16 in separate planes" in str(verdict)
    else:
        np.testing.assert_array_equal(found, np.moveaxis(planes >> 8, 0, 2))
        assert pictures.read_size(content, 1) == (HEIGHT, WIDTH)
    eight = ramp("uint8", 3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(pictures.decode(by_hand(eight, 2, order, planar=2), 1), np.moveaxis(eight, 0, 2))


def test_samples_side_by_side_are_channels_or_named() -> None:
    values = ramp("uint16", HEIGHT, WIDTH, 4)
    try:
        found = channels.decode(by_hand(values, 1), 4, None, 1)
    except BadPicture as verdict:
        assert verdict.reason == tiff.NEEDS_TIFFFILE and "4 samples of uint16; fix: pip install" in str(verdict)
    else:
        np.testing.assert_array_equal(found, (values.astype(int) + 128) // 257)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_numbers_without_a_range_are_refused_with_or_without_tifffile(dtype: str) -> None:
    content = by_hand(np.full((HEIGHT, WIDTH), -1).astype(dtype), 1)
    facts_at = content.index(struct.pack("<HHII", 284, 4, 1, 1))
    # SampleFormat takes the place of PlanarConfiguration, whose default is the same.
    content = content.replace(content[facts_at : facts_at + 12], struct.pack("<HHII", 339, 4, 1, 2 if dtype == "int8" else 3))
    for read in (pictures.decode, pictures.read_size):
        with pytest.raises(BadPicture, match=rf"{dtype}, whose range nothing says; fix: .*channel_range"):
            read(content, 1)


def test_directories_that_break_off_or_make_no_sense_have_no_facts() -> None:
    whole = by_hand(ramp("uint16", HEIGHT, WIDTH), 1)
    assert tiff.read_facts(io.BytesIO(whole)) == tiff.Facts(bits=16)
    assert tiff.read_facts(io.BytesIO(whole[:200])) is None
    for content in (b"", b"II", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n"):
        assert tiff.read_facts(io.BytesIO(content)) is None


def test_a_predictor_before_packbits_is_undone() -> None:
    pytest.importorskip("tifffile")
    values = ramp("uint8", HEIGHT, WIDTH)
    steps = np.diff(values.astype(int), axis=1, prepend=0).astype(np.uint8)
    body = b"".join(bytes([WIDTH - 1]) + row.tobytes() for row in steps)
    tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 32773, 262: 1, 273: 8, 277: 1, 278: HEIGHT, 279: len(body), 317: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    np.testing.assert_array_equal(pictures.decode(content, 1)[:, :, 0], values)
    np.testing.assert_array_equal(channels.decode(content, 1, None, 1)[:, :, 0], values)


# What tifffile writes

CONTIGUOUS: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "YX": ((HEIGHT, WIDTH), {}),
    "YX white is zero": ((HEIGHT, WIDTH), {"photometric": "miniswhite"}),
    "YXS rgb": ((HEIGHT, WIDTH, 3), {"photometric": "rgb"}),
    "SYX rgb": ((3, HEIGHT, WIDTH), {"photometric": "rgb", "planarconfig": "separate"}),
    "SYX plain": ((3, HEIGHT, WIDTH), {}),
    "YXS rgba": ((HEIGHT, WIDTH, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "YXS grey+alpha": ((HEIGHT, WIDTH, 2), {**CONTIGUOUS, "extrasamples": ["unassalpha"]}),
    "YXS 5": ((HEIGHT, WIDTH, 5), CONTIGUOUS),
    "QYX 5": ((5, HEIGHT, WIDTH), {"photometric": "minisblack"}),
    "YXC": ((HEIGHT, WIDTH, 2), {**CONTIGUOUS, "metadata": {"axes": "YXC"}}),
    "CYX OME": ((2, HEIGHT, WIDTH), {"ome": True, "metadata": {"axes": "CYX"}}),
    "ZCYX": ((2, 3, HEIGHT, WIDTH), {"photometric": "minisblack", "metadata": {"axes": "ZCYX"}}),
    "CYX ImageJ": ((4, HEIGHT, WIDTH), {"imagej": True, "metadata": {"axes": "CYX"}}),
    "ZCYX ImageJ": ((2, 3, HEIGHT, WIDTH), {"imagej": True, "metadata": {"axes": "ZCYX"}}),
}
IMAGEJ_TYPES = ("uint8", "uint16", "float32")


def matrix() -> list[tuple[str, str, dict[str, Any]]]:
    cases: list[tuple[str, str, dict[str, Any]]] = []
    for layout, dtype, order, compression in itertools.product(LAYOUTS, TYPES, "<>", (None, "zlib")):
        given = LAYOUTS[layout][1]
        if given.get("imagej") and (dtype not in IMAGEJ_TYPES or compression or order == "<"):
            continue
        if given.get("ome") and dtype == "float16":
            continue  # OME has no such type
        if given.get("photometric") == "miniswhite" and not dtype.startswith("uint"):
            continue
        cases.append((layout, dtype, {"byteorder": order, "compression": compression, **given}))
    large = itertools.product(("YX", "YXS rgb", "QYX 5"), TYPES)
    return cases + [(layout, dtype, {"bigtiff": True, **LAYOUTS[layout][1]}) for layout, dtype in large]


def array_of(layout: str, dtype: str) -> Array:
    top = {"uint8": 256, "int8": 128}.get(dtype, 30000)
    return np.random.default_rng(len(layout)).integers(0, top, LAYOUTS[layout][0]).astype(dtype)


def channels_last(layout: str, values: Array) -> Array:
    """[H, W, N], with N = 1 for a picture without further axes; pages of two axes follow one another."""
    letters = layout.split()[0]
    order = [letters.index("Y"), letters.index("X")]
    rest = [at for at in range(values.ndim) if at not in order]
    return values.transpose(*order, *rest).reshape(*(values.shape[at] for at in order), -1)


def as_rgb(layout: str, values: Array) -> Array:
    """What the RGB path must give for these values, where it gives anything."""
    stack = channels_last(layout, values).astype(np.int64)
    if "white" in layout:
        stack = np.iinfo(values.dtype).max - stack
    if values.dtype.itemsize > 1:
        stack = stack >> 8 if "rgb" in layout or layout == "SYX plain" else (stack + 128) // 257
    stack = stack.astype(np.uint8)
    if "alpha" in layout or "rgba" in layout:
        colour = stack[..., :3] if stack.shape[2] == 4 else np.repeat(stack[..., :1], 3, axis=2)
        picture = Image.fromarray(np.concatenate([colour, stack[..., -1:]], axis=2))
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    return stack if stack.shape[2] == 3 and ("rgb" in layout or layout == "SYX plain") else np.repeat(stack[..., :1], 3, axis=2)


@pytest.fixture(scope="module")
def tifffile() -> Any:
    return pytest.importorskip("tifffile")


def written(tifffile: Any, values: Array, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:.*stored as RGB with separate component planes:DeprecationWarning")
def test_every_file_of_the_matrix_is_read_as_it_is_or_refused_by_name(tifffile: Any) -> None:
    cases = matrix()
    assert len(cases) >= 120
    read_rgb = read_channels = 0
    for layout, dtype, options in cases:
        values = array_of(layout, dtype)
        content = written(tifffile, values, options)
        found_words = (layout.split()[0], dtype, f"{values.shape[0]} pages", "I with white as 0")
        if "white" in layout:
            found_words += ("I beyond 16 bits",)  # the other values are below 30,000
        wanted = channels_last(layout, values)
        count = wanted.shape[2]
        for name, read, want in (
            ("rgb", lambda c=content: pictures.decode(c, 1), as_rgb(layout, values)),
            ("channels", lambda c=content, n=count: channels.decode(c, n, None, 1), None),
            ("range", lambda c=content, n=count: channels.decode(c, n, ((0, 30000),), 1), None),
            ("exact", lambda c=content, n=count: channels.decode(c, n, None, 1, bits=16), None),
        ):
            case = (name, layout, dtype, options)
            try:
                found = read()
            except BadPicture as verdict:
                assert any(word in verdict.detail for word in found_words), (case, str(verdict))
                assert len(str(verdict)) < 300
                continue
            if name == "rgb":
                read_rgb += 1
            else:
                read_channels += 1
                numbers = wanted.astype(np.float64)
                if "white" in layout:
                    numbers = np.iinfo(dtype).max - numbers
                top = 30000 if name == "range" else 255 if values.dtype.itemsize == 1 else 65535
                steps, kind = (65535, np.uint16) if name == "exact" else (255, np.uint8)
                want = np.floor(np.clip(numbers, 0, top) * steps / top + 0.5).astype(kind)
            np.testing.assert_array_equal(found, want, err_msg=str(case))
            sized = pictures.read_size(content, 1) if name == "rgb" else channels.read_size(content, count, 1)
            assert sized == (HEIGHT, WIDTH), case
    assert read_rgb >= 60 and read_channels >= 300, (read_rgb, read_channels)


@pytest.mark.filterwarnings("ignore:.*stored as RGB with separate component planes:DeprecationWarning")
@pytest.mark.parametrize("layout", ["CYX ImageJ", "YXS 5", "SYX plain", "YXC", "CYX OME"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_channels_are_found_by_their_axes(tifffile: Any, layout: str, dtype: str, tmp_path: Path) -> None:
    values = array_of(layout, dtype)
    (tmp_path / "a.tif").write_bytes(written(tifffile, values, LAYOUTS[layout][1]))
    wanted = channels_last(layout, values)
    source = FolderConfig(path=tmp_path, channels=wanted.shape[2]).open()
    np.testing.assert_array_equal(source[0].pixels, wanted if dtype == "uint8" else (wanted.astype(int) + 128) // 257)
    with pytest.raises(BadPicture, match=r"another number of channels: axes .* needed 7"):
        FolderConfig(path=tmp_path, channels=7).open()[0]


def test_what_cannot_be_a_picture_names_its_axes_and_the_way_out(tifffile: Any) -> None:
    volume = array_of("ZCYX", "uint16")
    content = written(tifffile, volume, LAYOUTS["ZCYX ImageJ"][1])
    with pytest.raises(BadPicture, match=r"axes ZCYX of 2x3x12x10, uint16; needed: one axis besides Y and X; export one plane"):
        channels.decode(content, 3, None, 1)
    with pytest.raises(BadPicture, match=r"6 pages of uint16"):
        pictures.decode(content, 1)
    floats = written(tifffile, array_of("QYX 5", "float32"), {"photometric": "minisblack"})
    with pytest.raises(BadPicture, match=r"axes QYX of 5x12x10, float32; fix: data.source.channel_range"):
        channels.decode(floats, 5, None, 1)
    not_finite = array_of("YX", "float32")
    not_finite[3, 4] = np.nan
    with pytest.raises(BadPicture, match="not finite"):
        channels.decode(written(tifffile, not_finite, {}), 1, ((0, 1),), 1)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(array_of("YXS 5", "uint16"), photometric="minisblack", planarconfig="contig")
        writer.write(np.zeros((4, 4, 5), np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadPicture, match=r"2 separate images \(12x10x5, 4x4x5\)"):
        channels.decode(stream.getvalue(), 5, None, 1)


def test_floats_and_signed_numbers_follow_a_given_range(tifffile: Any) -> None:
    values = np.linspace(-0.5, 1.5, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    wanted = np.floor(np.clip(values.astype(np.float64), 0, 1) * 255 + 0.5)
    for dtype in ("float32", "float64"):
        content = written(tifffile, values.astype(dtype), {"byteorder": ">", "compression": "zlib"})
        np.testing.assert_array_equal(channels.decode(content, 1, ((0, 1),), 1)[..., 0], wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_read_by_axes_are_turned_as_others(tifffile: Any, orientation: int) -> None:
    values = array_of("YXS 5", "uint16")
    tag = [(274, 3, 1, orientation, True)]
    several = written(tifffile, values, {**LAYOUTS["YXS 5"][1], "extratags": tag, "metadata": None})
    alone = written(tifffile, values[..., 2], {"extratags": tag, "metadata": None})
    found = channels.decode(several, 5, None, 1)
    np.testing.assert_array_equal(found[..., 2], channels.decode(alone, 1, None, 1)[..., 0])
    assert channels.read_size(several, 5, 1) == found.shape[:2] == channels.read_size(alone, 1, 1)


def test_too_large_and_damaged_files_are_verdicts(tifffile: Any) -> None:
    content = written(tifffile, np.zeros((1001, 1000, 4), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"})
    for read in (channels.decode, lambda c, n, _, m: channels.read_size(c, n, m)):
        with pytest.raises(BadPicture, match="too many pixels: 1000 x 1001"):
            read(content, 4, None, 1)
    draw = np.random.default_rng(2)
    whole = written(tifffile, array_of("YXS 5", "uint16"), {**LAYOUTS["YXS 5"][1], "compression": "zlib"})
    for _ in range(200):
        broken = bytearray(whole)
        for place in draw.integers(0, len(whole), 3):
            broken[place] = draw.integers(0, 256)
        try:
            assert channels.decode(bytes(broken), 5, None, 1).dtype == np.uint8
        except BadPicture as verdict:
            assert verdict.reason
