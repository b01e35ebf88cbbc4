"""Layouts of tar shards as the library webdataset writes them; run by layouts.py."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image

from layout import Layout, Sample

COUNT = 4


def picture(number: int, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A small picture of its own for each number, encoded."""
    rows, columns = np.mgrid[0:16, 0:24]
    values = np.stack([rows * 15, columns * 10, (rows + columns + 31 * number) % 256], axis=2).astype(np.uint8)
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    stream = io.BytesIO()
    Image.fromarray(values).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def npy(number: int, channels: int = 5) -> bytes:
    """The bytes of a .npy file of uint16 [16, 24, channels]."""
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(number).integers(0, 65536, (16, 24, channels)).astype(np.uint16))
    return stream.getvalue()


def wide_tiff(number: int) -> bytes:
    """Three pages of 16 bits."""
    pages = [
        Image.fromarray(np.random.default_rng([number, page]).integers(0, 65536, (16, 24)).astype(np.uint16))
        for page in range(3)
    ]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    return stream.getvalue()


def written(folder: Path, samples: Sequence[Mapping[str, Any]], name: str = "a.tar", **options: Any) -> Path:
    """Write samples by webdataset's own writer."""
    with webdataset.TarWriter(str(folder / name), **options) as sink:
        for sample in samples:
            sink.write(dict(sample))
    return folder / name


def simple(name: str, ending: str, files: Sequence[bytes], more: Any = None, expected: Any = None, **settings: Any) -> Layout:
    """KEY.ending for each file, with what `more` gives for each number, read as what `expected` gives."""

    def members(number: int) -> dict[str, Any]:
        return {"__key__": f"{number:06d}", ending: files[number], **(more(number) if more else {})}

    samples = [Sample(content, **(expected(number) if expected else {})) for number, content in enumerate(files)]
    return Layout(
        name, lambda folder: written(folder, [members(number) for number in range(len(files))]), samples, settings=settings
    )


def _formats() -> list[Layout]:
    kinds = {
        "jpg": "JPEG",
        "jpeg": "JPEG",
        "webp": "WEBP",
        "bmp": "BMP",
        "gif": "GIF",
        "tif": "TIFF",
        "avif": "AVIF",
        "jp2": "JPEG2000",
    }
    made = [
        simple(f"KEY.{ending}", ending, [picture(number, kind) for number in range(COUNT)]) for ending, kind in kinds.items()
    ]
    heic = [picture(number, "HEIF") for number in range(COUNT)]
    wide = [wide_tiff(number) for number in range(COUNT)]
    arrays = [npy(number) for number in range(COUNT)]
    return [
        *made,
        simple("KEY.heic", "heic", heic),
        simple("KEY.tif of 3 pages of 16 bits", "tif", wide, channels=3, bits=16),
        simple("KEY.npy of 5 channels", "npy", arrays, channels=5),
    ]


def _annotated() -> list[Layout]:
    files = [picture(number) for number in range(COUNT)]
    said = {"text": "words", "original_height": 32, "original_width": 48}
    return [
        simple("KEY.png, KEY.cls", "png", files, lambda n: {"cls": n % 2}, lambda n: {"label": str(n % 2)}),
        simple("KEY.png, KEY.txt", "png", files, lambda n: {"txt": f"a {n}"}, lambda n: {"captions": (f"a {n}",)}),
        simple("KEY.png, KEY.txt of two lines", "png", files, lambda n: {"txt": "a\nb"}, lambda n: {"captions": ("a", "b")}),
        simple(
            "KEY.png, KEY.json",
            "png",
            files,
            lambda n: {"json": said | {"label": n % 2}},
            lambda n: {"captions": ("words",), "label": str(n % 2)},
        ),
        simple(
            "KEY.png, KEY.json of other names",
            "png",
            files,
            lambda n: {"json": {"caption": ["x", "y"]}},
            lambda n: {"captions": ("x", "y")},
            columns={"text": "caption"},
        ),
        simple("KEY.png, KEY.pyd, KEY.pth ignored", "png", files, lambda n: {"embedding.npy": np.zeros(3), "meta.pyd": {}}),
    ]


def _keys() -> list[Layout]:
    files = [picture(number) for number in range(COUNT)]

    def pairs(folder: Path) -> Path:
        return written(
            folder, [{"__key__": f"{n}", "photo.png": files[n], "mask.png": picture(9), "txt": f"{n}"} for n in range(COUNT)]
        )

    def spread(folder: Path) -> str:
        for n in range(COUNT):
            written(folder, [{"__key__": f"{n}", "png": files[n]}], f"set-{n:05d}.tar")
        return str(folder / f"set-{{00000..{COUNT - 1:05d}}}.tar")

    def dotted(folder: Path) -> Path:
        return written(folder, [{"__key__": f"cat.v{n}", "png": files[n], "txt": f"{n}"} for n in range(COUNT)])

    captioned = [Sample(content, captions=(f"{n}",)) for n, content in enumerate(files)]
    return [
        Layout("KEY.photo.png, KEY.mask.png, KEY.txt", pairs, captioned, settings={"picture": "photo.png"}),
        Layout("the same without data.source.picture", pairs, refused="two pictures for key 0: .mask.png, .photo.png"),
        Layout(
            "KEY.image.png, KEY.txt",
            lambda folder: written(folder, [{"__key__": f"{n}", "image.png": files[n], "txt": f"{n}"} for n in range(COUNT)]),
            captioned,
        ),
        Layout("keys with dots", dotted, captioned),
        Layout(
            "keys in folders",
            lambda folder: written(folder, [{"__key__": f"a/b/{n}", "png": files[n]} for n in range(COUNT)]),
            [Sample(one) for one in files],
        ),
        Layout("shards named by braces", spread, [Sample(one) for one in files]),
        Layout(
            "a compressed shard",
            lambda folder: written(folder, [{"__key__": "0", "png": files[0]}], "a.tar", compress=True),
            refused="cannot be read as tar",
        ),
        Layout("no pictures", lambda folder: written(folder, [{"__key__": "0", "txt": "a"}]), refused="contains no pictures"),
        Layout(
            "arrays without channels",
            lambda folder: written(folder, [{"__key__": "0", "npy": np.zeros((4, 4, 5))}]),
            refused="contains no pictures",
        ),
    ]


def layouts() -> list[Layout]:
    """All layouts."""
    return [*_formats(), *_annotated(), *_keys()]
