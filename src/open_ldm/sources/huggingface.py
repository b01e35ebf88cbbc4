"""Tables of the library `datasets`: a hub name, parquet or arrow files, or a folder of `save_to_disk`, with random access.

Rows are mapped from the disk, not loaded. Columns are found by their declared types (hub_columns.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from open_ldm.core.errors import DataError
from open_ldm.core.extras import need
from open_ldm.data import pictures
from open_ldm.data.columns import Columns
from open_ldm.data.health import BUDGET_SHARE
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable
from open_ldm.data.survey import spread
from open_ldm.sources.digests import StoredPicture, read_digests
from open_ldm.sources.hub_columns import (
    MappedColumn,
    TableColumns,
    choose_columns,
    inner_value,
    paths_without_bytes,
    values_of,
)
from open_ldm.sources.hub_rows import captions_in_cell, ids_of, is_whole, labels_of, sizes_of
from open_ldm.sources.hub_table import open_table
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, resolve_labels
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.picture_files import PictureFilesConfig

NO_PICTURE = "row without a picture"
_LOOKED_AT = 64


class HuggingFaceConfig(PictureFilesConfig):
    """A table of the library `datasets`.

    Attributes:
        path: A .parquet or .arrow file, a folder of them, a folder of `save_to_disk`, or a hub name.
        split: The split to read, such as train, by its name; null takes the one there is.
        subset: The part of a hub data set that has several.
        revision: Commit, tag or branch of a hub data set.
        picture: The column of pictures; null takes the one there is.
    """

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(min_length=1)
    split: str | None = Field(default=None, min_length=1)
    subset: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    picture: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _a_cell_is_a_caption(self) -> HuggingFaceConfig:
        if self.captions != "lines":
            raise ValueError("captions has no effect on huggingface, where a cell is one caption, or a list; fix: leave it out")
        return self

    def open(self) -> HuggingFaceSource:
        """Open the table. Raises ConfigError for a wrong path or split, DataError for unusable content."""
        return HuggingFaceSource(self)


class HuggingFaceSource:
    """Random-access data set over a table.

    A sample is named by the column `file_name` where there is one without repetitions, else SPLIT/ROW.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self.config = config
        opened = open_table(config.path, split=config.split, subset=config.subset, revision=config.revision)
        given = {str(role): name for role, name in config.columns.items()}
        features = opened.rows.features
        chosen = choose_columns(features, config.picture, given, config.path, partial(is_whole, opened.rows))
        rows, picture = opened.rows, features[chosen.picture]
        self._is_struct = type(picture).__name__ != "Value"
        if not len(rows):
            raise DataError(f"{config.path} has no rows", needed="one row per picture")
        if type(picture).__name__ == "Image":
            rows = rows.cast_column(chosen.picture, need("datasets", extra="data").Image(decode=False))
        self._columns, self._folder, self._split = chosen, opened.folder, opened.split
        if len(rows) != rows.data.num_rows:
            rows = rows.flatten_indices()
        self._rows = rows
        self._words = {name: feature.names for name in chosen.others if hasattr(feature := features.get(name), "names")}
        roles = {*filter(None, [chosen.label, chosen.text, chosen.file_name, chosen.height, chosen.width])}
        columns = Columns([*chosen.others, *roles], TableColumns(rows, self._words, chosen.others), roles)
        self._files = [Path(file["filename"]) for file in rows.cache_files]
        self._outside = paths_without_bytes(rows, chosen.picture)
        self._check_pictures()
        self.columns = with_ome(columns, len(rows), self.ome_at)
        self._ids, said = ids_of(rows, chosen)
        labels = resolve_labels(labels_of(rows, chosen), chosen.class_names, config.path)
        self._class_names = labels.class_names
        self._labels = np.array(labels.indices, np.int32)
        self._sizes = sizes_of(rows, chosen, config.path)
        captioned = sum(bool(captions_in_cell(cell)) for cell in self._cells())
        words = "; ".join(filter(None, [f"{opened.words}, split {opened.split}", chosen.said, said, labels.said]))
        self._summary = SourceSummary(len(rows), len(labels.class_names), captioned, words, config.channels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty when there are none."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the table contains."""
        return self._summary

    @property
    def fingerprint(self) -> str:
        """Hash of ids, labels, captions and original sizes; not of the pictures' content."""
        return _hash_of(self._named, self._class_names, self._labels.tobytes(), self._sizes_bytes, self._captions_hash)

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the index in parts."""
        settings = (self.config.reading, self._faults)
        return IndexHashes(
            pictures=_hash_of(settings, self._named, self._sizes_bytes),
            captions=self._captions_hash,
            labels=_hash_of(self._class_names, self._labels.tobytes()),
        )

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each picture's bytes; see `Source.digests`."""
        where = str(self._folder.resolve()) if self._folder is not None else self.config.path
        return read_digests(map(self._stored, indices), where, len(self), on_pictures)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        self._check(index)
        content = self.file_at(index)
        pixels = self.config.decode(content)
        size = (pixels.shape[0], pixels.shape[1])
        height, width = size if self._sizes is None else self._upright(index, content, size)
        return Sample(
            id=self.sample_id(index),
            pixels=pixels,
            original_height_px=height,
            original_width_px=width,
            label=self.label_of(index),
            captions=self.captions_of(index),
            attributes={**attributes_in(content), **self._attributes(index)},
            file=content,
        )

    def file_at(self, index: int) -> bytes:
        """Return the bytes of a row's picture, or of the file that it names. Raises BadPicture."""
        if index in self._outside:
            return pictures.read_bytes(self._file_of(index))
        stored = self._at[self._columns.picture][index]
        content: bytes = (stored["bytes"] if self._is_struct else stored).as_py()
        return content

    def ome_at(self, index: int) -> Ome:
        """Read what a picture's file says of itself. Raises BadPicture."""
        return read_ome(self.file_at(index))

    def sample_id(self, index: int) -> str:
        """Return the name of the row, or SPLIT/ROW."""
        return f"{self._split}/{index:08d}" if self._ids is None else self._ids[index]

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from columns or the picture's header. Raises BadPicture."""
        self._check(index)
        content = self.file_at(index)
        size = self.config.read_size(content)
        return size if self._sizes is None else self._upright(index, content, size)

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture without reading it; None when it has none."""
        label = int(self._labels[index])
        return None if label == NO_LABEL else label

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture without reading it."""
        return captions_in_cell(self._at[self._columns.text][index].as_py()) if self._columns.text else ()

    def captions(self) -> list[str]:
        """Return all captions, in the order of the pictures."""
        return [caption for cell in self._cells() for caption in captions_in_cell(cell)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_at"}  # arrays would be copied, not mapped

    @cached_property
    def _at(self) -> dict[str, MappedColumn]:
        others = dict.fromkeys(path[0] for path in self._columns.others.values())
        read = filter(None, [self._columns.picture, self._columns.text, *others])
        return {name: MappedColumn(self._rows, name) for name in read}

    def _cells(self) -> Iterator[Any]:
        return values_of(self._rows, self._columns.text) if self._columns.text else iter(())

    def _check(self, index: int) -> None:
        if self._class_names and self._labels[index] == NO_LABEL:
            raise BadPicture(BAD_LABEL, self.sample_id(index))

    def _file_of(self, index: int) -> Path:
        path = self._outside[index]
        if path is None:
            raise BadPicture(NO_PICTURE, self.sample_id(index))
        return Path(path) if self._folder is None else self._folder / path

    def _check_pictures(self) -> None:
        """Raise DataError when most rows hold the path of a file that is not here."""
        without = [index for index, path in self._outside.items() if path is None]
        if len(without) > BUDGET_SHARE * len(self._rows):
            raise DataError(
                f"{self.config.path}: {len(without):,} of {len(self._rows):,} rows have no picture", needed="its bytes"
            )
        named = [index for index, path in self._outside.items() if path is not None]
        lost = [index for at in spread(len(named), _LOOKED_AT) if not self._file_of(index := named[at]).is_file()]
        if len(lost) * len(named) > BUDGET_SHARE * len(self._rows) * min(len(named), _LOOKED_AT):
            raise DataError(
                f"{self.config.path}: paths were stored, not pictures, in {len(named):,} of {len(self._rows):,} rows, and"
                f" {printable(str(self._outside[lost[0]]))} is not here",
                needed="the bytes of the pictures",
                fix="write it again where the files are, by save_to_disk or push_to_hub, which store them; to_parquet does not",
            )

    def _upright(self, index: int, content: bytes, size: tuple[int, int]) -> tuple[int, int]:
        known = None if self._sizes is None else (int(self._sizes[index, 0]), int(self._sizes[index, 1]))
        return size if known is None or known == (0, 0) else self.config.upright(known, content, size)

    def _attributes(self, index: int) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for name, (top, *inner) in self._columns.others.items():
            value, words = inner_value(self._at[top][index].as_py(), inner), self._words.get(name)
            if value is not None and (words is None or value >= 0):
                found[name] = value if words is None else words[value]
        return found

    def _stored(self, index: int) -> StoredPicture | None:
        if self._class_names and self._labels[index] == NO_LABEL:
            return None
        if index in self._outside:
            return None if self._outside[index] is None else StoredPicture(self._file_of(index))
        read = partial(self.file_at, index)
        first = self._files[0] if self._files else Path(self.config.path, "in memory")
        return StoredPicture(first, index, read=read, state=self._state)

    @property
    def _faults(self) -> list[int]:
        bad = np.flatnonzero(self._labels == NO_LABEL).tolist() if self._class_names else []
        return sorted({*bad, *(index for index, path in self._outside.items() if path is None)})

    @cached_property
    def _state(self) -> bytes:
        """Identify the files behind the table and the column, beside what `digests` looks at itself."""
        stats = [
            (file.name, status.st_ino, status.st_size, status.st_mtime_ns) for file in self._files if (status := file.stat())
        ]
        return _hash_of(self._columns.picture, stats).encode()

    @cached_property
    def _named(self) -> str:
        return _hash_of(self._split, len(self), self._ids)

    @property
    def _sizes_bytes(self) -> bytes:
        return b"" if self._sizes is None else self._sizes.tobytes()

    @cached_property
    def _captions_hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for cell in self._cells():
            digest.update(repr(captions_in_cell(cell)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def _hash_of(*content: object) -> str:
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
