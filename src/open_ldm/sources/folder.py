"""A folder of pictures in any of several layouts. The layout is detected, and `summary` reports it.

    metadata.jsonl, .csv, .parquet   columns file_name, and if known text, label, original_height, original_width
    class folders                    two or more subfolders that contain all pictures; the first level names the class
    flat                             anything else, read recursively
    sidecars                         picture.txt or picture.caption beside picture.jpg; possible in the last two layouts

A folder without metadata whose pictures all lie in one subfolder is entered. Subfolders that are all called like splits (train,
test) are refused until `split` names one, also where pictures lie beside them. Where pictures beside subfolders make these no
classes, `summary` names them. Hidden files and folders are ignored.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.files import relative_path_hint
from open_ldm.data import pictures
from open_ldm.data.formats import suffixes
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable
from open_ldm.sources.digests import StoredPicture, read_digests
from open_ldm.sources.file_states import FileStates
from open_ldm.sources.files import NoSuchPath, moved
from open_ldm.sources.folder_layout import BAD_CAPTION, Entry, detect
from open_ldm.sources.labels import NO_LABEL
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.splits import split_folder

_HASHED_AT_ONCE = 1 << 12


class FolderConfig(PictureFilesConfig):
    """The folder `path` of pictures; `split` names the folder in it that is read, such as train."""

    kind: Literal["folder"] = "folder"
    path: Path
    split: str | None = Field(default=None, min_length=1)

    def open(self) -> FolderSource:
        """Index the folder. Raises ConfigError for a wrong path, DataError for unusable content."""
        return FolderSource(self)


class FolderSource:
    """Random-access data set over a folder; ids are file names relative to it, sorted, and printable."""

    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        root = _checked_root(config.path)
        layout = detect(root if config.split is None else split_folder(root, config.split), config, root)
        self._root = layout.root
        self._entries = layout.entries
        self.columns = with_ome(layout.columns, len(layout.entries), self.ome_at)
        self._class_names = layout.class_names
        captioned = sum(bool(entry.captions) for entry in layout.entries)
        self._summary = SourceSummary(len(layout.entries), len(layout.class_names), captioned, layout.words, config.channels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty when there are none."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the folder contains."""
        return self._summary

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, labels, captions and original sizes; not of the pictures' content."""
        digest = hashlib.blake2b(repr(self._class_names).encode(), digest_size=16)
        for entry in self._entries:
            digest.update(repr((entry.name, entry.label, entry.captions, entry.original_size)).encode())
        return digest.hexdigest()

    @cached_property
    def hashes(self) -> IndexHashes:
        """Hashes of the pictures' names and original sizes, and of captions and labels in the order of the pictures."""
        entries = self._entries
        return IndexHashes(
            pictures=_hash_of(self.config.reading, ((entry.name, entry.original_size, entry.fault) for entry in entries)),
            captions=_hash_of(None, (entry.captions for entry in entries)),
            labels=_hash_of(self._class_names, (entry.label for entry in entries)),
        )

    def ignore_captions(self) -> None:
        """Take pictures whose captions cannot be read as pictures without any, for a run that reads no captions."""
        self._entries = tuple(
            replace(entry, fault="", detail="") if entry.fault == BAD_CAPTION else entry for entry in self._entries
        )
        for name in ("fingerprint", "hashes"):
            self.__dict__.pop(name, None)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each file's bytes; see `Source.digests`."""
        entries = (self._entries[index] for index in indices)
        stored = (None if entry.fault else StoredPicture(self._root / entry.name) for entry in entries)
        read = partial(read_digests, stored, str(self._root.resolve()), len(self), on_pictures)
        return self._states.reading(np.asarray(indices, dtype=np.int64), read)

    def stored_digests(self, indices: Indices) -> bytes | None:
        """Return the digests of files, 16 bytes each, where none has changed since they were computed; no picture is read."""
        return self._states.digests_of(indices)

    @property
    def _states(self) -> FileStates:
        return FileStates(self._root, [None if entry.fault else entry.name for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self._usable(index)
        content = pictures.read_bytes(self._root / entry.name)
        pixels = self.config.decode(content)
        size, known = (pixels.shape[0], pixels.shape[1]), entry.original_size
        height, width = size if known is None else self.config.upright(known, content, size)
        return Sample(
            id=self.sample_id(index),
            pixels=pixels,
            original_height_px=height,
            original_width_px=width,
            label=self.label_of(index),
            captions=entry.captions,
            attributes=attributes_in(content),
            file=content,
        )

    def ome_at(self, index: int) -> Ome:
        """Read what a picture's file says of itself, from its header. Raises BadPicture."""
        return pictures.with_file(self._root / self._usable(index).name, read_ome)

    def file_at(self, index: int) -> bytes:
        """Return the bytes of a picture's file. Raises BadPicture."""
        return pictures.read_bytes(self._root / self._usable(index).name)

    def sample_id(self, index: int) -> str:
        """Return the file name relative to the folder, with forward slashes."""
        return printable(self._entries[index].name)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from metadata or the file's header. Raises BadPicture."""
        entry = self._usable(index)
        known = entry.original_size
        if known is not None and known[0] == known[1]:
            return known
        path = self._root / entry.name
        size = self.config.read_size(path)
        return size if known is None else self.config.upright(known, path, size)

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture without reading it; None when it has none."""
        label = self._entries[index].label
        return label if isinstance(label, int) and label != NO_LABEL else None

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture without reading it."""
        return self._entries[index].captions

    def captions(self) -> list[str]:
        """Return all captions, in the order of the pictures."""
        return [caption for entry in self._entries for caption in entry.captions]

    def _usable(self, index: int) -> Entry:
        entry = self._entries[index]
        if entry.fault:
            raise BadPicture(entry.fault, entry.detail or entry.name)
        return entry


def _hash_of(before: object | None, items: Iterable[object]) -> str:
    """Hash `(before, list of items)` by its `repr`, or the list alone for None; no text of all items is ever in memory."""
    digest = hashlib.blake2b(b"[" if before is None else f"({before!r}, [".encode("utf-8", "backslashreplace"), digest_size=16)
    left, separator = iter(items), ""
    while portion := list(itertools.islice(left, _HASHED_AT_ONCE)):
        digest.update((separator + ", ".join(map(repr, portion))).encode("utf-8", "backslashreplace"))
        separator = ", "
    digest.update(b"]" if before is None else b"])")
    return digest.hexdigest()


def _checked_root(path: Path) -> Path:
    root = path.expanduser()
    if root.is_dir():
        return root
    if root.exists():
        fix = f"try {root.parent}" if root.suffix.lower() in suffixes() else ""
        raise ConfigError(f"data.source.path {path} is a file", needed="a folder of pictures", fix=fix)
    try:
        folders = [item.name for item in root.parent.iterdir() if item.is_dir() and item.name[0] != "."]
        beside = sorted(map(printable, folders))
    except OSError:
        beside = []
    hint = f"name {nearest(root.name, beside)}" if beside else ""
    raise NoSuchPath(
        f"data.source.path {path} does not exist",
        needed=f"a folder of pictures{relative_path_hint(path)}",
        fix=hint or moved(path),
    )
