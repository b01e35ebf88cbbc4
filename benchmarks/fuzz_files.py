"""Files of data sets for `fuzz.py`: metadata, tar shards, and pictures."""

from __future__ import annotations

import io
import json
import math
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fuzz_mutate import ODD, NonsenseError, mutated_bytes, mutated_tree
from open_ldm.data.columns import Columns
from open_ldm.data.sample import BadPicture, Source
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.metadata import read_metadata
from open_ldm.sources.shard_index import index_shard
from open_ldm.sources.shards import ShardsConfig

ROWS: list[dict[str, Any]] = [
    {
        "file_name": "0.png",
        "text": ["a cat", "a pet"],
        "label": "cat",
        "original_height": 20,
        "original_width": 30,
        "size": 1.5,
    },
    {"file_name": "1.png", "text": "a ship", "label": "ship", "nested": {"stain": "he", "zoom": 40}},
    {"file_name": "2.png", "label": "cat", "size": None},
]
ODD_TEXTS = st.text(max_size=12) | st.sampled_from([each for each in ODD if isinstance(each, str)])


def _picture(draw: random.Random, format_name: str = "PNG", mode: str = "RGB", side: int = 8, **options: Any) -> bytes:
    pixels = np.frombuffer(draw.randbytes(side * (side + 1) * 3), np.uint8).reshape(side, side + 1, 3)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format_name, **options)
    return stream.getvalue()


def _check_columns(columns: Columns, rows: int) -> None:
    """Every column has one value a row, a finite number, a word, or none."""
    for name in columns:
        column = columns[name]
        if len(column.values) != rows:
            raise NonsenseError(f"column {name} has {len(column.values)} values for {rows} pictures")
        for index in range(rows):
            value = column.at(index)
            if isinstance(value, float) and not math.isfinite(value):
                raise NonsenseError(f"column {name} holds {value}")


def _bad(verdicts: list[BadPicture], rows: int) -> str | None:
    """The line of a source of which no picture can be read."""
    return str(verdicts[0])[:299] if verdicts and len(verdicts) == rows else None


class Metadata:
    """`metadata.jsonl` and `metadata.csv` beside three pictures, one kind a letter before the content."""

    count = 500

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "fuzzed-metadata"
        self._folder.mkdir()
        for number in range(3):
            (self._folder / f"{number}.png").write_bytes(_picture(random.Random(number)))

    def begun(self) -> list[tuple[str, bytes]]:
        """Return good rows in both forms."""
        names = "file_name,text,label,original_height,original_width,size"
        csv = f"{names}\n0.png,a cat,cat,20,30,1.5\n1.png,,ship,,,nan\n2.png,,,,,\n"
        return [("jsonl", _lines(ROWS)), ("csv", csv.encode()), ("csv", csv.replace(",", ";").encode("utf-16"))]

    def strategy(self) -> st.SearchStrategy[tuple[str, bytes]]:
        """Return rows with any values."""
        values = st.sampled_from(ODD) | st.integers() | st.floats() | ODD_TEXTS | st.booleans()
        nested = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
        names = st.sampled_from([*sorted({name for row in ROWS for name in row}), "extra", "nested.zoom", ""])
        row = st.dictionaries(names, nested, max_size=4)
        fixed = st.tuples(st.sampled_from(["0.png", "1.png", "2.png", "../0.png"]), row)
        rows = st.lists(fixed.map(lambda each: {"file_name": each[0], **each[1]}), max_size=4)
        table = st.lists(st.lists(ODD_TEXTS, max_size=4).map(",".join), max_size=4).map("\n".join)
        csv = table.map(lambda text: ("csv", f"file_name,text,size\n0.png,a,1\n{text}".encode("utf-8", "surrogatepass")))
        return rows.map(lambda each: ("jsonl", _lines(each))) | csv

    def mutated(self, given: tuple[str, bytes], draw: random.Random) -> tuple[str, bytes]:
        """Return a file with other values, or other letters."""
        form, content = given
        try:
            rows = [json.loads(line) for line in content.splitlines()] if form == "jsonl" and draw.random() < 0.6 else []
        except ValueError:
            rows = []
        return (form, _lines(mutated_tree(rows, draw))) if rows else (form, mutated_bytes(content, draw))

    def read(self, given: tuple[str, bytes]) -> str | None:
        """Read the rows and the pictures, and write and read the rows again."""
        form, content = given
        for other in self._folder.glob("metadata.*"):
            other.unlink()
        file = self._folder / f"metadata.{form}"
        file.write_bytes(content)
        rows = read_metadata(file).rows
        source = FolderConfig(path=self._folder).open()
        verdict = _looked_through(source)
        file.unlink()
        again = self._folder / "metadata.jsonl"
        again.write_bytes(_lines([_as_json(row) for row in rows]))
        if read_metadata(again).rows != rows:
            raise NonsenseError("rows are others when they are written and read again")
        return verdict


def _looked_through(source: Source) -> str | None:
    """Check the columns and every sample; what the bad ones say where all are bad."""
    _check_columns(source.columns, len(source))
    verdicts = []
    for index in range(len(source)):
        try:
            _check_sample(source[index], source.class_names)
        except BadPicture as verdict:
            verdicts.append(verdict)
    return _bad(verdicts, len(source))


def _as_json(row: Any) -> dict[str, Any]:
    height, width = row.original_size or (None, None)
    sizes = {"original_height": height, "original_width": width}
    return {"file_name": row.file_name, "text": list(row.captions), "label": row.label, **sizes}


def _lines(rows: Any) -> bytes:
    listed = rows if isinstance(rows, list) else [rows]
    return "\n".join(json.dumps(row) for row in listed).encode()


def _check_sample(sample: Any, class_names: tuple[str, ...]) -> None:
    if sample.original_height_px < 1 or sample.original_width_px < 1:
        raise NonsenseError(f"a picture of {sample.original_height_px} x {sample.original_width_px}")
    if sample.label is not None and class_names and not 0 <= sample.label < len(class_names):
        raise NonsenseError(f"class {sample.label} of {len(class_names)}")
    for text in (sample.id, *sample.captions):
        text.encode("utf-8")
    json.dumps(sample.attributes, allow_nan=False, default=str)


class Shards:
    """A tar file."""

    count = 500

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "fuzzed-shards"
        self._folder.mkdir()

    def begun(self) -> list[bytes]:
        """Return shards with all that may stand beside a picture."""
        draw = random.Random(0)
        described = {"text": ["a cat"], "label": "cat", "original_height": 20, "original_width": 30, "zoom": 40}
        members = {"0.png": _picture(draw), "0.json": json.dumps(described).encode(), "1.jpg": _picture(draw, "JPEG")}
        classes = {"a/2.png": _picture(draw), "a/2.cls": b"3", "a/2.txt": b"a ship\non the sea", "a/2.mask": b"x"}
        return [_shard(members), _shard(classes), _shard(classes, tarfile.GNU_FORMAT)]

    def strategy(self) -> st.SearchStrategy[bytes]:
        """Return shards whose members have any names, and texts of any content."""
        values = st.sampled_from(ODD) | st.floats() | ODD_TEXTS
        described = st.dictionaries(st.sampled_from(["text", "label", "original_height", "original_width", "x"]), values)
        files = st.one_of(
            st.just(("0.png", _picture(random.Random(1)))),
            described.map(lambda each: ("0.json", json.dumps(each).encode())),
            st.tuples(st.sampled_from(["0.cls", "0.txt", "0.caption", "0.json", "1.png"]), st.binary(max_size=40)),
            st.tuples(ODD_TEXTS.filter(lambda name: "\0" not in name), st.binary(max_size=8)),
        )
        return st.lists(files, min_size=1, max_size=5).map(
            lambda each: _shard([("0.png", _picture(random.Random(2))), *each][-5:])
        )

    def mutated(self, given: bytes, draw: random.Random) -> bytes:
        """Return a shard with damage, most of it in the headers."""
        if draw.random() < 0.4:
            return mutated_bytes(given, draw)
        block = draw.randrange(max(1, len(given) // 512)) * 512
        header = mutated_bytes(given[block : block + 512], draw)[:512].ljust(512, b"\0")
        if draw.random() < 0.7:  # with a sum that fits, so that it is believed
            blank = header[:148] + b" " * 8 + header[156:]
            header = header[:148] + f"{sum(blank):06o}\0 ".encode() + header[156:]
        return given[:block] + header + given[block + 512 :]

    def read(self, given: bytes) -> str | None:
        """Index it, read all its samples, and index it again."""
        file = self._folder / "shard.tar"
        file.write_bytes(given)
        index = index_shard(file)
        if index_shard(file) != index:
            raise NonsenseError("the index is another when it is read again")
        return _looked_through(ShardsConfig(path=str(file)).open())


def _shard(members: Mapping[str, bytes] | list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, errors="surrogateescape") as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            member = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Pictures:
    """Files of pictures: read as RGB, or with a number of channels."""

    count = 500

    def begun(self) -> list[tuple[int, bytes]]:
        """Return pictures of many formats and kinds of pixels."""
        draw = random.Random(0)
        array = io.BytesIO()
        np.save(array, np.arange(2 * 8 * 9, dtype=np.uint16).reshape(8, 9, 2))
        upright = Image.Exif()
        upright[0x0112] = 6
        plain = [
            *(_picture(draw, form, mode) for form in ("PNG", "TIFF") for mode in ("RGB", "RGBA", "L", "P", "1", "LA")),
            *(_picture(draw, form) for form in ("JPEG", "WEBP", "BMP", "GIF")),
            _picture(draw, "JPEG", "CMYK"),
            _picture(draw, "JPEG", exif=upright.tobytes(), progressive=True),
            _picture(draw, "TIFF", compression="tiff_lzw"),
        ]
        pages = io.BytesIO()
        images = [Image.fromarray(np.full((8, 9), value, np.uint16)) for value in (1, 2)]
        images[0].save(pages, "TIFF", save_all=True, append_images=images[1:])
        return [*((0, each) for each in plain), (2, array.getvalue()), (2, pages.getvalue()), (1, _picture(draw, "PNG", "L"))]

    def strategy(self) -> st.SearchStrategy[tuple[int, bytes]]:
        """Return beginnings of pictures that go on with anything."""
        starts = st.sampled_from([content[:length] for _, content in self.begun() for length in (4, 12, 40, len(content) - 20)])
        return st.tuples(st.sampled_from([0, 0, 1, 2, 3]), st.tuples(starts, st.binary(max_size=60)).map(b"".join))

    def mutated(self, given: tuple[int, bytes], draw: random.Random) -> tuple[int, bytes]:
        """Return a picture with damage, most of it at its beginning."""
        channels, content = given
        head = draw.choice((40, 200, len(content)))
        return channels, mutated_bytes(content[:head], draw) + content[head:]

    def read(self, given: tuple[int, bytes]) -> str | None:
        """Decode it, and compare its size with what its header says."""
        channels, content = given
        config = FolderConfig(path=Path("none"), max_megapixels=0.1, channels=channels or None)
        try:
            pixels = config.decode(content)
            size = config.read_size(content)
        except BadPicture as verdict:
            return str(verdict)
        if pixels.dtype != np.uint8 or pixels.shape != (*size, channels or 3) or pixels.size > 3e5 * max(1, channels):
            raise NonsenseError(f"pixels {pixels.dtype} {pixels.shape}, and {size} by the header")
        return None
