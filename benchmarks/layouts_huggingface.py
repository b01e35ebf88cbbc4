"""Layouts of tables as the library datasets writes them; run by layouts.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from layout import Layout, Sample
from layouts_webdataset import picture

COUNT = 4
FILES = [picture(number) for number in range(COUNT)]
LABELS = ("cat", "dog")
EXPECTED = [Sample(content, LABELS[number % 2], (f"caption {number}",)) for number, content in enumerate(FILES)]
PLAIN = [Sample(content) for content in FILES]


def table(**columns: Any) -> Any:
    """Pictures by their bytes, and other columns as (values, type)."""
    rows = {"image": [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(FILES)]}
    types = {"image": datasets.Image()}
    for name, (values, kind) in columns.items():
        rows[name], types[name] = values, kind
    return datasets.Dataset.from_dict(rows, features=datasets.Features(types))


def whole() -> Any:
    """With declared classes and a caption each."""
    label = ([number % 2 for number in range(COUNT)], datasets.ClassLabel(names=list(LABELS)))
    return table(label=label, text=([f"caption {number}" for number in range(COUNT)], datasets.Value("string")))


def on_disk(folder: Path) -> list[str]:
    """The pictures as files: their paths."""
    for number, content in enumerate(FILES):
        (folder / "files" / LABELS[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "files" / LABELS[number % 2] / f"{number}.png").write_bytes(content)
    return [str(folder / "files" / LABELS[number % 2] / f"{number}.png") for number in range(COUNT)]


def saved(make: Callable[[], Any]) -> Callable[[Path], Path]:
    """Write by save_to_disk."""

    def write(folder: Path) -> Path:
        make().save_to_disk(folder / "saved")
        return folder / "saved"

    return write


def _parquet(folder: Path) -> Path:
    whole().to_parquet(folder / "set.parquet")
    return folder / "set.parquet"


def _parts(folder: Path) -> Path:
    root = folder / "set [v2]" / "data"
    root.mkdir(parents=True)
    for part in range(2):
        whole().select([2 * part, 2 * part + 1]).to_parquet(root / f"train-{part:05d}-of-00002.parquet")
    whole().select([0]).to_parquet(root / "test-00000-of-00001.parquet")
    return root.parent


def _paths(moved: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        paths = on_disk(folder)
        datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image()).to_parquet(folder / "set.parquet")
        if moved:
            (folder / "files").rename(folder / "elsewhere")
        return folder / "set.parquet"

    return write


def _imagefolder(folder: Path) -> Path:
    on_disk(folder)
    datasets.load_dataset("imagefolder", data_dir=str(folder / "files"), split="train").save_to_disk(folder / "saved")
    return folder / "saved"


def _metadata(folder: Path) -> Path:
    (folder / "files").mkdir()
    rows = []
    for number, content in enumerate(FILES):
        (folder / "files" / f"{number}.png").write_bytes(content)
        rows.append(json.dumps({"file_name": f"{number}.png", "text": f"caption {number}"}))
    (folder / "files" / "metadata.jsonl").write_text("\n".join(rows))
    datasets.load_dataset("imagefolder", data_dir=str(folder / "files"), split="train").save_to_disk(folder / "saved")
    return folder / "saved"


def _card(folder: Path) -> Path:
    """A clone of a hub repository, whose card names the files of each split."""
    (folder / "hub").mkdir()
    whole().to_parquet(folder / "hub" / "part.parquet")
    (folder / "hub" / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - {split: fit, path: part.parquet}\n---\n# A set\n"
    )
    return folder / "hub"


def _splits(folder: Path) -> Path:
    datasets.DatasetDict({"train": whole(), "test": whole().select([0])}).save_to_disk(folder / "saved")
    return folder / "saved"


def _wide() -> Any:
    arrays = [np.random.default_rng(number).integers(0, 65536, (8, 9)).astype(np.uint16) for number in range(COUNT)]
    return datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in arrays]})


def _wide_files() -> Sequence[Sample]:
    rows = _wide().cast_column("image", datasets.Image(decode=False))
    return [Sample(row["image"]["bytes"]) for row in rows]


def layouts() -> list[Layout]:
    """All layouts."""
    datasets.disable_progress_bars()
    words = datasets.Value("string")
    captions = datasets.List(words)
    several = [Sample(content, captions=("a", "b")) for content in FILES]
    masks = ([{"bytes": picture(9), "path": None}] * COUNT, datasets.Image())
    numbers = [Sample(content, str(number % 2)) for number, content in enumerate(FILES)]
    named = [Sample(content, LABELS[number % 2]) for number, content in enumerate(FILES)]
    classes = ([number % 2 for number in range(COUNT)], datasets.ClassLabel(names=list(LABELS)))
    return [
        Layout("a parquet file", _parquet, EXPECTED),
        Layout("parquet in parts, splits, [v2] in the path", _parts, EXPECTED, settings={"split": "train"}),
        Layout("the same without a split", _parts, refused="holds the splits"),
        Layout("save_to_disk", saved(whole), EXPECTED),
        Layout("save_to_disk of several splits", _splits, EXPECTED, settings={"split": "train"}),
        Layout("an arrow file", lambda folder: next(saved(whole)(folder).glob("*.arrow")), EXPECTED),
        Layout("a clone with a card", _card, EXPECTED, settings={"subset": "small"}),
        Layout("to_parquet of paths, files in place", _paths(False), PLAIN),
        Layout("to_parquet of paths, files elsewhere", _paths(True), refused="paths were stored, not pictures, in 4 of 4 rows"),
        Layout("imagefolder with classes, saved", _imagefolder, [*named[::2], *named[1::2]]),
        Layout("imagefolder with metadata, saved", _metadata, [Sample(one.file, captions=one.captions) for one in EXPECTED]),
        Layout("lists of captions", saved(lambda: table(text=([["a", "b"]] * COUNT, captions))), several),
        Layout(
            "captions in another column",
            saved(lambda: table(caption=([["a", "b"]] * COUNT, captions))),
            several,
            settings={"columns": {"text": "caption"}},
        ),
        Layout(
            "whole numbers as classes",
            saved(lambda: table(label=([n % 2 for n in range(COUNT)], datasets.Value("int64")))),
            numbers,
        ),
        Layout("classes in another column", saved(lambda: table(breed=classes)), named),
        Layout(
            "two columns of classes",
            saved(lambda: table(fine=classes, coarse=classes)),
            named,
            settings={"columns": {"label": "fine"}},
        ),
        Layout("pictures and masks", saved(lambda: table(mask=masks)), PLAIN, settings={"picture": "image"}),
        Layout(
            "pictures and masks, none named", saved(lambda: table(mask=masks)), refused="2 columns of pictures: image, mask"
        ),
        Layout("rows chosen by select, in another order", saved(lambda: whole().select([3, 1])), [EXPECTED[3], EXPECTED[1]]),
        Layout("grey of 16 bits", saved(_wide), _wide_files(), settings={"channels": 1, "bits": 16}),
        Layout(
            "addresses instead of pictures",
            saved(lambda: datasets.Dataset.from_dict({"url": ["https://example.org/a.png"]})),
            refused="no column of pictures",
        ),
        Layout(
            "arrays instead of pictures",
            saved(lambda: datasets.Dataset.from_dict({"image": [np.zeros((4, 4, 3), np.uint8).tolist()]})),
            refused="no column of pictures",
        ),
    ]
