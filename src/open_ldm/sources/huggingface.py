"""Tables of the library `datasets`: a hub name, parquet or arrow files, or a folder of `save_to_disk`, with random access.

Rows are mapped from the disk, not loaded. Columns are found by their declared types (hub_columns.py). Where `ldm data index`
wrote a table of the arrow files, nothing is kept for each row either (mapped_rows.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from open_ldm.core.errors import DataError
from open_ldm.data import pictures
from open_ldm.data.columns import Columns
from open_ldm.data.health import BUDGET_SHARE
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable
from open_ldm.data.survey import spread
from open_ldm.sources.digests import StoredPicture, read_digests
from open_ldm.sources.hub_columns import TableColumns, inner_value
from open_ldm.sources.hub_rows import captions_in_cell, said_of_names
from open_ldm.sources.hub_table import HubTable, open_table
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, resolve_classes
from open_ldm.sources.near_misses import single_pictures
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.open_rows import open_rows
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.table_rows import NO_PICTURE

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

    def find(self) -> HubTable:
        """Find the table, of which nothing is read yet. Raises ConfigError for a wrong path or split."""
        return open_table(self.path, split=self.split, subset=self.subset, revision=self.revision)

    def open(self) -> HuggingFaceSource:
        """Open the table. Raises ConfigError for a wrong path or split, DataError for unusable content."""
        return HuggingFaceSource(self)


class HuggingFaceSource:
    """Random-access data set over a table.

    A sample is named by the column `file_name` where there is one without repetitions, else SPLIT/ROW.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        self.config = config
        opened = config.find()
        given = {str(role): name for role, name in config.columns.items()}
        rows = self._rows = open_rows(opened, config.picture, given)
        chosen = self._columns = rows.columns
        self._folder, self._split = opened.folder, opened.split
        self._words = {name: feature.names for name in chosen.others if hasattr(feature := rows.features.get(name), "names")}
        roles = {*filter(None, [chosen.label, chosen.text, chosen.file_name, chosen.height, chosen.width])}
        columns = Columns([*chosen.others, *roles], TableColumns(rows.values_of, self._words, chosen.others), roles)
        self._check_pictures()
        self.columns = with_ome(columns, len(rows), self.ome_at)
        classes = resolve_classes(rows.label_counts, chosen.class_names, config.path)
        rows.settle(classes)
        self._class_names = classes.names
        self._known = rows.known.get(self._settings, ())
        said = said_of_names(chosen, named=rows.named)
        given_folder = Path(config.path).expanduser()
        beside = single_pictures(given_folder) if given_folder.is_dir() and not rows.outside else ""
        words = "; ".join(filter(None, [f"{opened.words}, split {opened.split}", chosen.said, said, classes.said, beside]))
        self._summary = SourceSummary(len(rows), len(classes.names), rows.captioned, words, config.channels)

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
        return self._known[0] if self._known else self._hash_of_all()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the index in parts."""
        return IndexHashes(*self._known[1:]) if self._known else self._hashes_of_parts()

    def known_hashes(self) -> dict[str, Sequence[str]]:
        """Compute the hashes of the index for its table, by the settings that they depend on."""
        parts = self._hashes_of_parts()
        return {self._settings: [self._hash_of_all(), parts.pictures, parts.captions, parts.labels]}

    def stored_digests(self, indices: Indices) -> bytes | None:
        """Return the digests of samples, 16 bytes each, where the table of arrow files has them; no picture is read."""
        return self._rows.digests_of(indices)

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return what a hold-out of this seed compares, for each sample, where the table of arrow files has it."""
        return self._rows.hold_out_numbers(seed)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each picture's bytes; see `Source.digests`."""
        where = str(self._folder.resolve()) if self._folder is not None else self.config.path
        return read_digests(map(self._stored, indices), where, len(self), on_pictures)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        self._check(index)
        content = self.file_at(index)
        pixels = self.config.decode(content)
        size = (pixels.shape[0], pixels.shape[1])
        height, width = self._upright(index, content, size)
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
        if self._rows.is_outside(index):
            return pictures.read_bytes(self._file_of(index))
        return self._rows.picture_at(index)

    def ome_at(self, index: int) -> Ome:
        """Read what a picture's file says of itself. Raises BadPicture."""
        return read_ome(self.file_at(index))

    def sample_id(self, index: int) -> str:
        """Return the name of the row, or SPLIT/ROW."""
        return self._rows.sample_id(index)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from columns or the picture's header. Raises BadPicture."""
        self._check(index)
        known = self._rows.known_size(index, self.config.reading)
        if known is not None:
            return known
        content = self.file_at(index)
        return self._upright(index, content, self.config.read_size(content))

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture without reading it; None when it has none."""
        label = self._rows.label(index)
        return None if label == NO_LABEL else label

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture without reading it."""
        return captions_in_cell(self._rows.cell(index, self._columns.text).as_py()) if self._columns.text else ()

    def captions(self) -> list[str]:
        """Return all captions, in the order of the pictures."""
        return [caption for cell in self._cells() for caption in captions_in_cell(cell)]

    def _cells(self) -> Iterator[Any]:
        return self._rows.values_of(self._columns.text) if self._columns.text else iter(())

    def _check(self, index: int) -> None:
        if self._class_names and self._rows.label(index) == NO_LABEL:
            raise BadPicture(BAD_LABEL, self.sample_id(index))

    def _file_of(self, index: int) -> Path:
        path = self._rows.path_at(index)
        if path is None:
            raise BadPicture(NO_PICTURE, self.sample_id(index))
        return Path(path) if self._folder is None else self._folder / path

    def _check_pictures(self) -> None:
        """Raise DataError when most rows hold the path of a file that is not here."""
        rows = self._rows
        if rows.without_picture > BUDGET_SHARE * len(rows):
            raise DataError(
                f"{self.config.path}: {rows.without_picture:,} of {len(rows):,} rows have no picture",
                needed=f"a picture in all but {100 * BUDGET_SHARE:g} % of them",
                fix="leave these rows out with `filter` of the library `datasets`, and save the rest",
            )
        named = (rows.outside_at(at) for at in spread(rows.outside, _LOOKED_AT))
        lost = [index for index in named if not self._file_of(index).is_file()]
        if len(lost) * rows.outside > BUDGET_SHARE * len(rows) * min(rows.outside, _LOOKED_AT):
            raise DataError(
                f"{self.config.path}: paths were stored, not pictures, in {rows.outside:,} of {len(rows):,} rows, and"
                f" {printable(str(rows.path_at(lost[0])))} is not here",
                needed="the bytes of the pictures",
                fix="write it again where the files are, by save_to_disk or push_to_hub, which store them; to_parquet does not",
            )

    def _upright(self, index: int, content: bytes, size: tuple[int, int]) -> tuple[int, int]:
        known = self._rows.size_in_columns(index)
        return self.config.upright(known, content, size) if any(known) else size

    def _attributes(self, index: int) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for name, (top, *inner) in self._columns.others.items():
            value, words = inner_value(self._rows.cell(index, top).as_py(), inner), self._words.get(name)
            if value is not None and (words is None or value >= 0):
                found[name] = value if words is None else words[value]
        return found

    def _stored(self, index: int) -> StoredPicture | None:
        if self._class_names and self._rows.label(index) == NO_LABEL:
            return None
        if self._rows.is_outside(index):
            return None if self._rows.path_at(index) is None else StoredPicture(self._file_of(index))
        return self._rows.stored_at(index)

    @property
    def _settings(self) -> str:
        """Hash of all that the hashes depend on besides the rows."""
        return _hash_of(self.config.reading, self._class_names)

    def _hash_of_all(self) -> str:
        labels = self._rows.labels().tobytes()
        return _hash_of(self._named, self._class_names, labels, self._sizes_bytes, self._captions_hash)

    def _hashes_of_parts(self) -> IndexHashes:
        settings = (self.config.reading, [index for index, _ in self._rows.faults()])
        return IndexHashes(
            pictures=_hash_of(settings, self._named, self._sizes_bytes),
            captions=self._captions_hash,
            labels=_hash_of(self._class_names, self._rows.labels().tobytes()),
        )

    @cached_property
    def _named(self) -> str:
        return _hash_of(self._split, len(self), self._rows.names())

    @property
    def _sizes_bytes(self) -> bytes:
        sizes = self._rows.sizes_in_columns()
        return b"" if sizes is None else sizes.tobytes()

    @cached_property
    def _captions_hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for cell in self._cells():
            digest.update(repr(captions_in_cell(cell)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def _hash_of(*content: object) -> str:
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
