"""FILE.HASH.index.safetensors: the index of one arrow file of `datasets`, beside it (sidecar.py).

The hash is one of the rules: which columns are read, the split, and the number of the file's first row in it, since samples are
named by these. Captions and metadata stay in the arrow file, which is mapped. Columns beside those of every sidecar:

    keys, keys_end                  where a column names the samples; otherwise they are SPLIT/ROW
    original_size   int32 [n, 2]    height and width that columns give, 0 where unknown; absent without such columns
    outside         int64 [m]       rows that name a file in place of holding their picture
    size            int32 [n, 2]    height and width of the pictures as the settings `reading` give them, 0 where unknown
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from open_ldm.core.errors import DataError
from open_ldm.core.plain_data import plain
from open_ldm.data.sample import BadPicture
from open_ldm.sources.digests import DIGEST_BYTES
from open_ldm.sources.hub_columns import HubColumns, MappedColumn, bytes_in, paths_without_bytes, values_of
from open_ldm.sources.hub_rows import captions_in_cell, counted_id, labels_of, sizes_of
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.sidecar import (
    Array,
    Sidecar,
    SidecarContent,
    Stamp,
    beside,
    bytes_columns,
    hold_out_number,
    map_sidecar,
    save_sidecar,
)
from open_ldm.sources.table_rows import NO_PICTURE


@dataclass(frozen=True)
class ArrowSettings:
    """The settings by which a set of arrow files is read; they name its table."""

    split: str
    picture: str | None
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ArrowRules:
    """What the sidecar of an arrow file depends on besides the file.

    Attributes:
        split: Name of the split.
        columns: Which column is what.
        named: Whether a column names the samples.
        first: Number of the file's first row in the split.
    """

    split: str
    columns: HubColumns
    named: bool
    first: int

    def plain(self) -> Any:
        """Plain data."""
        found = self.columns
        names = found.file_name if self.named else ""
        return ["arrow", self.split, self.first, found.picture, found.label, found.text, names, found.height, found.width]


def arrow_sidecar_of(file: Path, rules: ArrowRules) -> Path:
    """Return the path of an arrow file's sidecar."""
    return beside(file, rules.plain())


def read_arrow_sidecar(file: Path, rules: ArrowRules) -> Sidecar:
    """Map the sidecar of an arrow file, which is not looked at.

    Raises:
        FileNotFoundError: There is none.
        DataError: It is damaged, or belongs to other rules.
    """
    sidecar = map_sidecar(arrow_sidecar_of(file, rules))
    if sidecar.rules != rules.plain():
        raise DataError(f"{sidecar.path} is of other data.source settings", fix=f"rm {sidecar.path}, then ldm data index")
    return sidecar


def count_captioned(sidecar: Sidecar) -> int:
    """Return how many rows have a caption that is not empty."""
    return int(np.count_nonzero(sidecar["text_size"]))


def write_arrow_sidecar(
    file: Path,
    rows: Any,
    rules: ArrowRules,
    names: Sequence[str] | None,
    config: PictureFilesConfig,
    before: Stamp,
    data_set: Sequence[str],
    *,
    digests: bool,
) -> None:
    """Write the sidecar of an arrow file.

    Args:
        file: The arrow file.
        rows: Its rows, as a `datasets.Dataset` without a choice of rows.
        rules: How they are read.
        names: Their names, where a column names them.
        config: How pictures are read.
        before: What the file was before it was opened.
        data_set: What names the data set in all its states (earlier_states.py).
        digests: Whether pictures are read, for their hashes and sizes.

    Raises:
        DataError: The file changed meanwhile, or an original size is no size.
        DiskError: The disk refuses.
    """
    content = _content(rows, rules, names, config, data_set, digests=digests)
    if Stamp.of(file.stat()) != before:
        raise DataError(f"arrow file {file} changed while it was indexed", fix="run the same command again")
    save_sidecar(arrow_sidecar_of(file, rules), before, rules.plain(), content)


def _content(
    rows: Any,
    rules: ArrowRules,
    names: Sequence[str] | None,
    config: PictureFilesConfig,
    data_set: Sequence[str],
    *,
    digests: bool,
) -> SidecarContent:
    found = rules.columns
    outside = paths_without_bytes(rows, found.picture)
    ids = [counted_id(rules.split, row) for row in range(rules.first, rules.first + len(rows))] if names is None else names
    cells = values_of(rows, found.text) if found.text else (None for _ in range(len(rows)))
    captions = [sum(len(caption.encode()) for caption in captions_in_cell(cell)) for cell in cells]
    sizes = sizes_of(rows, found, str(config.path), rules.first)
    columns: dict[str, Array] = {
        "hold_out": np.array([hold_out_number(0, sample_id) for sample_id in ids], dtype=np.int64),
        "text_size": np.array(captions, dtype=np.int64),
        "outside": np.array([row for row, path in outside.items() if path is not None], dtype=np.int64),
    }
    if names is not None:
        columns |= bytes_columns("keys", [name.encode() for name in names])
    if sizes is not None:
        columns["original_size"] = sizes
    if digests:
        columns |= _of_pictures(rows, found.picture, sizes, config)
    faults = {row: NO_PICTURE for row, path in outside.items() if path is None}
    told = {"without_picture": len(faults), "reading": plain(config.reading), "data_set": list(data_set)}
    return SidecarContent(columns, labels_of(rows, found), faults, told)


def _of_pictures(rows: Any, column: str, known: Array | None, config: PictureFilesConfig) -> dict[str, Array]:
    """The hash and the size of each picture that the rows hold; zeros for others."""
    pictures, digests = MappedColumn(rows.data, column), bytearray()
    sizes = np.zeros((len(rows), 2), dtype=np.int32)
    for row in range(len(rows)):
        stored = bytes_in(pictures[row])
        if stored is None:
            digests += bytes(DIGEST_BYTES)
            continue
        digests += hashlib.blake2b(stored, digest_size=DIGEST_BYTES).digest()
        sizes[row] = _size_of(stored.to_pybytes(), (0, 0) if known is None else tuple(known[row].tolist()), config)
    return {"digest": np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES), "size": sizes}


def _size_of(content: bytes, known: tuple[int, ...], config: PictureFilesConfig) -> tuple[int, int]:
    try:
        size = config.read_size(content)
    except BadPicture:
        return (0, 0)
    return config.upright((known[0], known[1]), content, size) if any(known) else size
